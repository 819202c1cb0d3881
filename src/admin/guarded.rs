//! An interface behind the authorizer: no method runs and no property is written before somebody was let in. It wraps what the macro
//! has made, so that no method can forget to ask.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use zbus::message::{Header, Message};
use zbus::names::{InterfaceName, MemberName};
use zbus::object_server::{DispatchResult, Interface, SignalEmitter};
use zbus::{BoxDBusError, Connection, ObjectServer, OwnedVariant, Variant, fdo};

use super::authorization::as_caller;
use super::refused::BusError;
use super::service::Shared;

/// `I`, guarded.
pub struct Guarded<I> {
    inner: I,
    shared: Arc<Shared>,
}

impl<I> Guarded<I> {
    /// Puts the authorizer in front.
    pub fn new(inner: I, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

#[async_trait]
impl<I: Interface> Interface for Guarded<I> {
    fn name() -> InterfaceName<'static> {
        I::name()
    }

    async fn get(
        &self,
        property: &str,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> Option<Result<OwnedVariant, BoxDBusError>> {
        let _busy = self.shared.busy();
        self.inner.get(property, server, connection, header, emitter).await
    }

    async fn get_all(
        &self,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> fdo::Result<HashMap<String, OwnedVariant>> {
        let _busy = self.shared.busy();
        self.inner.get_all(server, connection, header, emitter).await
    }

    fn set<'call>(
        &'call self,
        property: &'call str,
        value: &'call Variant<'_>,
        server: &'call ObjectServer,
        connection: &'call Connection,
        header: Option<&'call Header<'_>>,
        emitter: &'call SignalEmitter<'_>,
    ) -> DispatchResult<'call> {
        DispatchResult::Async(Box::pin(async move {
            let _busy = self.shared.busy();
            let header = header.ok_or_else(|| BusError::Denied("nobody has written this".to_owned()))?;
            let caller =
                self.shared.authorizer.admit(header, &I::name(), property).await.map_err(BusError::from)?;
            match self.inner.set(property, value, server, connection, Some(header), emitter) {
                DispatchResult::Async(set) => as_caller(caller, set).await,
                _ => Err(fdo::Error::UnknownProperty(format!("{property} cannot be written")).into()),
            }
        }))
    }

    async fn set_mut(
        &mut self,
        property: &str,
        _: &Variant<'_>,
        _: &ObjectServer,
        _: &Connection,
        _: Option<&Header<'_>>,
        _: &SignalEmitter<'_>,
    ) -> Option<Result<(), BoxDBusError>> {
        // `set` never asks for this one.
        Some(Err(BusError::Denied(format!("{property} cannot be written here")).into()))
    }

    fn call<'call>(
        &'call self,
        server: &'call ObjectServer,
        connection: &'call Connection,
        message: &'call Message,
        member: MemberName<'call>,
    ) -> DispatchResult<'call> {
        DispatchResult::Async(Box::pin(async move {
            let _busy = self.shared.busy();
            let header = message.header();
            let caller =
                self.shared.authorizer.admit(&header, &I::name(), &member).await.map_err(BusError::from)?;
            // Whoever lists or calls ports finds those that there are now.
            self.shared.keep_objects(server).await;
            match self.inner.call(server, connection, message, member.clone()) {
                DispatchResult::Async(call) => as_caller(caller, call).await,
                _ => Err(fdo::Error::UnknownMethod(format!("there is no method {member}")).into()),
            }
        }))
    }

    fn call_mut<'call>(
        &'call mut self,
        _: &'call ObjectServer,
        _: &'call Connection,
        _: &'call Message,
        _: MemberName<'call>,
    ) -> DispatchResult<'call> {
        // `call` never asks for this one.
        DispatchResult::NotFound
    }

    fn introspect_to_writer(&self, writer: &mut dyn Write, level: usize) {
        self.inner.introspect_to_writer(writer, level);
    }
}

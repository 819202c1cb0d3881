//! The time: as people read it at a console, and waited for.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

/// `12:01:07`, local time.
pub fn clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// `2026-11-24 12:01:07`, local time.
pub fn date_and_clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Waits for a moment that there may not be; without one, for ever. Cancel safe.
pub async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

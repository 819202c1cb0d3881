//! Types that are texts of limited characters.

/// Serializes a type as its text, by its Display and FromStr. (The type has serde's `try_from = "String", into = "String"`.)
macro_rules! serde_as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = <Self as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

/// The name of something, and the error for a word that is none: its message, and whether a word is such a name.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $error:ident, $message:literal, $is_name:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        #[doc = concat!("Not a valid [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(word: &str) -> Result<Self, $error> {
                let is_name: fn(&str) -> bool = $is_name;
                match is_name(word) {
                    true => Ok(Self(word.to_owned())),
                    false => Err($error(word.chars().take(60).collect())),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use {name_type, serde_as_text};

/// Whether a word is a bare key of TOML, with a letter or digit first, and valid after `PORT:` in a unit name.
pub(crate) fn is_bare_key(word: &str) -> bool {
    (1..=32).contains(&word.len())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
}

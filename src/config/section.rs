//! One declaration per setting: the struct, the defaults, the merge, `config print` and the table in the
//! documentation all come from it.

use super::codec::{Raw, Wrong};

/// When a changed setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// By `systemctl reload` or the admin operation Reload.
    Reload,
    /// Only when the daemon starts again.
    Restart,
}

/// One setting as it stands.
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) value: String,
    pub(super) accepts: String,
    pub(super) applies: Applies,
    pub(super) doc: &'static str,
}

/// A table of the configuration file.
pub(super) trait Section {
    /// Every setting in the order of its declaration.
    fn fields(&self) -> Vec<Field>;
    /// Sets one key; `None` when the section has no such key.
    fn set(&mut self, key: &str, raw: Raw<'_>) -> Option<Result<(), Wrong>>;
}

/// Declares a section: `key "toml name if another": type = default, codec, Reload|Restart;`
macro_rules! section {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident $($key:literal)? : $ty:ty = $default:expr, $codec:expr, $applies:ident; )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $ty, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $crate::config::section::Section for $name {
            fn fields(&self) -> Vec<$crate::config::section::Field> {
                vec![$(
                    $crate::config::section::Field {
                        key: $crate::config::section::key!($field $($key)?),
                        value: $crate::config::codec::Codec::<$ty>::show(&$codec, &self.$field),
                        accepts: $crate::config::codec::Codec::<$ty>::accepts(&$codec),
                        applies: $crate::config::section::Applies::$applies,
                        doc: concat!($($doc),+).trim_ascii(),
                    },
                )+]
            }

            fn set(
                &mut self,
                key: &str,
                raw: $crate::config::codec::Raw<'_>,
            ) -> Option<Result<(), $crate::config::codec::Wrong>> {
                $(
                    if key == $crate::config::section::key!($field $($key)?) {
                        let read = $crate::config::codec::Codec::<$ty>::read(&$codec, raw);
                        return Some(read.map(|value| self.$field = value));
                    }
                )+
                None
            }
        }
    };
}

macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

pub(super) use {key, section};

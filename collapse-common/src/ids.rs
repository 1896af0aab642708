//! The macro that every enum of ids is declared with.

/// Declares an enum whose variants have fixed numbers and, where given, a name and a label: one line
/// declares all that is known of an id.
///
/// ```
/// collapse_common::ids! {
///     /// A size of page.
///     pub enum Size: u8 {
///         /// 4 KiB.
///         Small = 0 "4k" "small page",
///         /// 2 MiB.
///         Huge = 7 "2m" "huge page",
///     }
/// }
///
/// assert_eq!(Size::ALL, [Size::Small, Size::Huge]);
/// assert_eq!(Size::from_number(7), Some(Size::Huge));
/// assert_eq!(Size::from_number(1), None);
/// assert_eq!(Size::from_name("4k"), Some(Size::Small));
/// assert_eq!(Size::Huge.label(), "huge page");
/// ```
///
/// Without labels the enum has no `label`, without names neither `name` nor `from_name`. Numbers and
/// names are part of recordings and of every output: they are added to, never changed.
#[macro_export]
macro_rules! ids {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $Id:ident: $repr:ident {
            $($(#[$of_variant:meta])* $variant:ident = $number:literal,)*
        }
    ) => {
        $(#[$attribute])*
        #[repr($repr)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility enum $Id {
            $($(#[$of_variant])* $variant = $number,)*
        }

        impl $Id {
            /// Every id, in the order of declaration.
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$variant),*];

            /// Returns the id numbered `number`, if there is one.
            pub const fn from_number(number: $repr) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $Id:ident: $repr:ident {
            $($(#[$of_variant:meta])* $variant:ident = $number:literal $name:literal,)*
        }
    ) => {
        $crate::ids! {
            $(#[$attribute])*
            $visibility enum $Id: $repr {
                $($(#[$of_variant])* $variant = $number,)*
            }
        }

        impl $Id {
            /// The name in JSON, metrics and recordings.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns the id with this name, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $Id:ident: $repr:ident {
            $($(#[$of_variant:meta])* $variant:ident = $number:literal $name:literal $label:literal,)*
        }
    ) => {
        $crate::ids! {
            $(#[$attribute])*
            $visibility enum $Id: $repr {
                $($(#[$of_variant])* $variant = $number $name,)*
            }
        }

        impl $Id {
            /// The label, for people.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

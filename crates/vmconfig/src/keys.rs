//! What there is to know about a configuration key, and the macro that turns one table into keys and settings.
//!
//! The table itself is in `table`: a new key is one entry there.

use super::value::Value;

/// The table of rotation policies.
pub(super) const VM_POLICY: &str = "VM_POLICY";
/// The table of ways to hold a guest still.
pub(super) const VM_CONSISTENCY: &str = "VM_CONSISTENCY";
/// The table of domains of which increments are compared with the chain, or not.
pub(super) const VM_TRIPWIRE: &str = "VM_TRIPWIRE";
/// The table of disks of single domains that are left out.
pub(super) const VM_EXCLUDE_DISKS: &str = "VM_EXCLUDE_DISKS";
/// The tables that say something of single virtual machines, by name.
pub(super) const VM_TABLES: [&str; 4] = [VM_POLICY, VM_CONSISTENCY, VM_TRIPWIRE, VM_EXCLUDE_DISKS];
/// One known key.
#[derive(Debug)]
pub struct Key {
    /// Heading in the sample files.
    pub section: &'static str,
    /// Name in Bash files and in the environment; TOML also takes it in lower case.
    pub name: &'static str,
    /// Value when nobody sets the key, as it would be written.
    pub default: &'static str,
    /// Unit of the number, or empty.
    pub unit: &'static str,
    /// What the key does, for users, line by line.
    pub doc: &'static [&'static str],
    /// Where the key may be set, and how samples show it.
    pub marks: Marks,
    /// Whether an empty value says something.
    pub empty_is_value: bool,
    /// Whether the value is a comma list.
    pub is_list: bool,
    /// What is allowed, in words.
    pub allowed: fn() -> String,
    /// Says when an allowed value is not taken literally.
    pub remark: fn(&str) -> Option<&'static str>,
    /// Whether two texts mean the same.
    pub same: fn(&str, &str) -> bool,
}

/// Where a key may be set, and how the samples show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Taken from the environment when no file sets it.
    pub env: bool,
    /// Active in the samples; the others are commented out.
    pub shipped: bool,
    /// Known so that older files load; changes nothing. Its explanation begins with "Not used: " and the reason.
    pub unused: bool,
}

impl Marks {
    pub(super) const PLAIN: Self = Self { env: false, shipped: false, unused: false };
    pub(super) const ENV: Self = Self { env: true, ..Self::PLAIN };
    pub(super) const SHIPPED: Self = Self { shipped: true, ..Self::PLAIN };
    pub(super) const ENV_SHIPPED: Self = Self { env: true, ..Self::SHIPPED };
    pub(super) const UNUSED: Self = Self { unused: true, ..Self::PLAIN };
}

impl Key {
    pub(super) const fn new<T: Value>(
        section: &'static str,
        name: &'static str,
        (default, unit): (&'static str, &'static str),
        marks: Marks,
        doc: &'static [&'static str],
    ) -> Self {
        let (empty_is_value, is_list) = (T::EMPTY_IS_VALUE, T::IS_LIST);
        let (allowed, remark, same) = (T::allowed, T::remark, same::<T>);
        Self { section, name, default, unit, doc, marks, empty_is_value, is_list, allowed, remark, same }
    }

    /// The name as it is documented for TOML.
    pub fn lower_name(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// Whether a text counts as a value of this key, or as not setting it.
    pub fn is_set_by(&self, text: &str) -> bool {
        self.empty_is_value || !text.is_empty()
    }

    /// Why a text changes nothing, if the key is not used and the text is not what happens anyway.
    pub fn unused_because(&self, text: &str) -> Option<String> {
        let explained = self.doc.concat();
        let because = explained.trim().strip_prefix("Not used: ").unwrap_or(&explained);
        let because = because.split_once(". ").map_or(because, |(reason, _)| reason);
        (self.marks.unused && !(self.same)(text, self.default)).then(|| because.to_owned())
    }

    /// The words for a TOML boolean: some keys say `yes` and `no`, the others `true` and `false`.
    pub fn switch_word(&self, on: bool) -> &'static str {
        match (matches!(self.default, "yes" | "no"), on) {
            (true, true) => "yes",
            (true, false) => "no",
            (false, true) => "true",
            (false, false) => "false",
        }
    }
}

fn same<T: Value>(left: &str, right: &str) -> bool {
    left == right || matches!((T::parse(left), T::parse(right)), (Some(left), Some(right)) if left == right)
}

/// Makes [`KEYS`](super::KEYS) and [`Settings`](super::Settings) of one table.
///
/// An entry: documentation for users, then `"NAME" field: Type = "default", "unit", MARKS;`.
macro_rules! settings_table {
    ($( section $title:literal { $(
        $(#[doc = $doc:literal])+
        $name:literal $field:ident: $type:ty = $default:literal, $unit:literal, $marks:ident;
    )+ } )+) => {
        /// All keys, in the order of the sample files.
        pub static KEYS: &[Key] = &[$($(
            Key::new::<$type>($title, $name, ($default, $unit), Marks::$marks, &[$($doc),+]),
        )+)+];

        /// All settings of one instance, checked. Its fields are the keys of the sample files.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $($( $(#[doc = $doc])+ pub $field: $type, )+)+
            /// Rotation policy of single domains, by their exact name.
            pub vm_policies: BTreeMap<String, RotationPolicy>,
            /// How to compress: what the keys about it come to.
            pub compression: CompressionChoice,
            /// How single domains are held still, by their exact name.
            pub vm_consistency: BTreeMap<String, Consistency>,
            /// Domains, by their exact name, of which increments are compared with the chain, or not.
            pub vm_tripwire: BTreeMap<String, Switch>,
            /// Disks of single domains, by their exact name, that are left out, beside those of all domains.
            pub vm_exclude_disks: BTreeMap<String, DiskTargets>,
            /// Patterns for names of domains that are not backed up, in the order written.
            pub exclude_patterns: Vec<String>,
            /// The same for domains that are not trimmed, from the file that FSTRIM_EXCLUDE_FILE names.
            pub trim_exclude: Vec<String>,
            texts: BTreeMap<&'static str, String>,
        }

        impl Settings {
            /// Reads every text into its type; what is not allowed is reported, all of it.
            pub(super) fn from_texts(
                texts: BTreeMap<&'static str, String>,
                refuse: &mut dyn FnMut(&'static str, &str, String),
            ) -> Option<Self> {
                let mut refused = Refuse { texts: &texts, refuse };
                $($( let $field = refused.read::<$type>($name, $default); )+)+
                Some(Self {
                    $($( $field: $field?, )+)+
                    vm_policies: BTreeMap::new(),
                    compression: CompressionChoice::default(),
                    vm_consistency: BTreeMap::new(),
                    vm_tripwire: BTreeMap::new(),
                    vm_exclude_disks: BTreeMap::new(),
                    exclude_patterns: Vec::new(),
                    trim_exclude: Vec::new(),
                    texts,
                })
            }

            /// The value of any known key as text, by its upper-case name.
            pub fn text(&self, name: &str) -> Option<&str> {
                self.texts.get(name).map(String::as_str)
            }
        }
    };
}

pub(super) use settings_table;

//! What `=` and `+=` do to a variable, given values that are already expanded.

use std::collections::BTreeMap;

use super::construct::Construct;
use super::variables::{Element, Shape, Variable, Variables, check_length, refuse};
use crate::error::ConfigError;
use crate::place::Place;

/// What an assignment aims at.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) append: bool,
    pub(super) at: Place,
}

/// One element of a list in parentheses: with `[key]=` or without.
#[derive(Clone, Debug)]
pub(super) struct ListItem {
    pub(super) key: Option<String>,
    pub(super) append: bool,
    pub(super) value: Element,
}

/// A list in parentheses.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    pub(super) items: Vec<ListItem>,
    /// Whether an element without `[key]=` was written, even if it expanded to nothing.
    pub(super) has_unnamed: bool,
}

/// An assignment with its values expanded, ready to be carried out.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) target: Target,
    pub(super) value: Assigned,
}

/// What stands behind `=`.
#[derive(Clone, Debug)]
pub(super) enum Assigned {
    /// One value, for the variable or one of its elements.
    One { key: Option<String>, value: Element },
    /// A list in parentheses.
    List(List),
}

/// The kind of variable that `declare -a` and `declare -A` make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    Plain,
    List,
    Table,
}

impl Variables<'_> {
    /// Carries out one assignment.
    pub(super) fn apply(&mut self, assignment: Assignment) -> Result<(), ConfigError> {
        let Assignment { target, value } = assignment;
        match value {
            Assigned::One { key: None, value } => self.assign(&target, value),
            Assigned::One { key: Some(key), value } => self.assign_element(&target, key, value),
            Assigned::List(list) => self.assign_list(&target, list),
        }
    }

    /// `NAME=value`. Of a list, that is element 0, which is hardly ever meant.
    fn assign(&mut self, target: &Target, value: Element) -> Result<(), ConfigError> {
        let variable = self.writable(target)?;
        match &mut variable.shape {
            shape @ Shape::Empty => *shape = Shape::One(value),
            Shape::One(old) => set(old, target.append, value)?,
            Shape::List(list) => {
                let was_empty = list.is_empty();
                put(list, 0, target.append, value)?;
                if !was_empty {
                    let Target { name, at, .. } = target;
                    self.warnings.push(format!(
                        "{at}: {name} is a list, of which this changes the first element; to add one, write {name}+=(\"…\")"
                    ));
                }
            }
            Shape::Table(_) => return Err(needs_names(target)),
        }
        Ok(())
    }

    /// `NAME[key]=value`.
    fn assign_element(&mut self, target: &Target, key: String, value: Element) -> Result<(), ConfigError> {
        let variable = self.writable(target)?;
        match as_collection(variable) {
            Shape::Table(table) => put(table, key, target.append, value),
            Shape::List(list) => {
                let index = list_index(&key, &target.at)?;
                put(list, index, target.append, value)
            }
            Shape::Empty | Shape::One(_) => Err(needs_names(target)),
        }
    }

    /// `NAME=(…)`: replaces all elements, or adds behind the last one.
    fn assign_list(&mut self, target: &Target, list: List) -> Result<(), ConfigError> {
        let List { items, has_unnamed } = list;
        let variable = self.writable(target)?;
        match as_collection(variable) {
            Shape::Table(_) if has_unnamed => return Err(needs_names(target)),
            Shape::Table(table) => {
                if !target.append {
                    table.clear();
                }
                for ListItem { key, append, value } in items {
                    let key = key.ok_or_else(|| needs_names(target))?;
                    put(table, key, append, value)?;
                }
            }
            Shape::List(list) => {
                if !target.append {
                    list.clear();
                }
                let mut next = list.last_key_value().map_or(Some(0), |(index, _)| index.checked_add(1));
                for ListItem { key, append, value } in items {
                    let given = key.map(|key| list_index(&key, &value.at)).transpose()?;
                    let index = given.or(next).ok_or_else(|| list_full(&value.at))?;
                    next = index.checked_add(1);
                    put(list, index, append, value)?;
                }
            }
            Shape::Empty | Shape::One(_) => return Err(needs_names(target)),
        }
        Ok(())
    }

    /// `declare NAME` and what its options say.
    pub(super) fn declare(&mut self, target: &Target, declared: Declared) -> Result<(), ConfigError> {
        let variable = self.variable(target);
        let fits = match (declared, &variable.shape) {
            (Declared::Plain, _) | (Declared::List, Shape::List(_)) | (Declared::Table, Shape::Table(_)) => {
                true
            }
            (Declared::List, Shape::Empty | Shape::One(_)) => {
                as_collection(variable);
                true
            }
            (Declared::Table, Shape::Empty) => {
                variable.shape = Shape::Table(BTreeMap::new());
                true
            }
            (Declared::List, Shape::Table(_)) => false,
            (Declared::Table, Shape::One(_) | Shape::List(_)) => false,
        };
        if fits {
            Ok(())
        } else {
            Err(refuse(&target.at, Construct::OtherShape { name: target.name.clone() }))
        }
    }

    /// Refuses later assignments to `name`.
    pub(super) fn make_read_only(&mut self, name: &str) {
        if let Some(variable) = self.all.get_mut(name) {
            variable.read_only = true;
        }
    }

    fn writable(&mut self, target: &Target) -> Result<&mut Variable, ConfigError> {
        let inherited = self.in_environment(&target.name).filter(|_| target.append);
        let variable = self.variable(target);
        if variable.read_only {
            return Err(refuse(&target.at, Construct::ReadOnly { name: target.name.clone() }));
        }
        variable.at = target.at.clone();
        if let (Shape::Empty, Some(text)) = (&variable.shape, inherited) {
            variable.shape = Shape::One(Element { text, at: target.at.clone() });
        }
        Ok(variable)
    }

    /// The variable, made if need be.
    fn variable(&mut self, target: &Target) -> &mut Variable {
        let is_table = self.is_table_by_name(&target.name);
        self.all.entry(target.name.clone()).or_insert_with(|| Variable {
            shape: if is_table { Shape::Table(BTreeMap::new()) } else { Shape::Empty },
            at: target.at.clone(),
            read_only: false,
        })
    }
}

/// Turns what is not yet a list or table into a list, as Bash does.
fn as_collection(variable: &mut Variable) -> &mut Shape {
    let old = std::mem::replace(&mut variable.shape, Shape::Empty);
    variable.shape = match old {
        Shape::Empty => Shape::List(BTreeMap::new()),
        Shape::One(element) => Shape::List(BTreeMap::from([(0, element)])),
        collection => collection,
    };
    &mut variable.shape
}

fn put<K: Ord>(
    map: &mut BTreeMap<K, Element>,
    key: K,
    append: bool,
    value: Element,
) -> Result<(), ConfigError> {
    match map.get_mut(&key) {
        Some(old) => set(old, append, value),
        None => {
            map.insert(key, value);
            Ok(())
        }
    }
}

fn set(old: &mut Element, append: bool, value: Element) -> Result<(), ConfigError> {
    if append {
        check_length(old.text.len() + value.text.len(), &value.at)?;
        old.text.push_str(&value.text);
        old.at = value.at;
    } else {
        *old = value;
    }
    Ok(())
}

fn list_index(text: &str, at: &Place) -> Result<u32, ConfigError> {
    // A leading zero would make it octal, a sign or a name arithmetic.
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    let index = if plain { text.parse().ok() } else { None };
    index.ok_or_else(|| refuse(at, Construct::ListIndex { index: text.to_owned() }))
}

fn list_full(at: &Place) -> ConfigError {
    refuse(at, Construct::ListIndex { index: "4294967296".to_owned() })
}

fn needs_names(target: &Target) -> ConfigError {
    refuse(&target.at, Construct::TableNeedsNames { name: target.name.clone() })
}

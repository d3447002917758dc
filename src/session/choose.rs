//! Which VMs a run is about: all of the host, or those that were named.

use super::error::SessionError;
use vmhost::libvirt::Domain;

/// The domains that `names` name, each of which may be a list with commas. All of them without names.
pub(super) fn choose(all: &[Domain], names: &[String]) -> Result<Vec<Domain>, SessionError> {
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    let find = |name: &str| {
        all.iter().find(|d| d.name() == name).cloned().ok_or_else(|| SessionError::UnknownVm {
            name: name.to_owned(),
            known: all.iter().map(|d| d.name().to_owned()).collect(),
        })
    };
    let exists = |name: &str| all.iter().any(|d| d.name() == name);
    let mut chosen: Vec<Domain> = Vec::new();
    if names.iter().all(|list| names_in(list, &exists).is_empty()) {
        // Commas alone must not mean every VM.
        find(&names.concat())?;
    }
    for name in names.iter().flat_map(|list| names_in(list, &exists)) {
        let domain = find(name)?;
        if chosen.iter().all(|c| c.uuid() != domain.uuid()) {
            chosen.push(domain);
        }
    }
    Ok(chosen)
}

/// The names in `A,B`. A name may have commas of its own: the longest one that exists counts. Nothing between two commas, or
/// behind the last, is no name.
pub fn names_in<'a>(list: &'a str, exists: &dyn Fn(&str) -> bool) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut rest = Some(list);
    while let Some(text) = rest {
        let mut ends: Vec<usize> = text.match_indices(',').map(|(at, _)| at).chain([text.len()]).collect();
        let first = ends[0];
        ends.reverse();
        let end = ends.into_iter().find(|end| exists(&text[..*end])).unwrap_or(first);
        names.push(&text[..end]);
        rest = text.get(end + 1..);
    }
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_split_at_commas_that_are_not_part_of_a_name() {
        let cases: [(&str, &[&str]); 9] = [
            ("a", &["a"]),
            ("a,b", &["a", "b"]),
            ("a,b,c", &["a,b,c"]),
            ("b,a,b,c,a", &["b", "a,b,c", "a"]),
            (",x", &[",x"]),
            ("nobody,a", &["nobody", "a"]),
            ("a,", &["a"]),
            ("a,,b", &["a", "b"]),
            (",", &[]),
        ];
        let exists = |name: &str| ["a", "b", "a,b,c", ",x"].contains(&name);
        for (list, want) in cases {
            assert_eq!(names_in(list, &exists), want, "{list:?}");
        }
    }
}

//! One line on the host's own configuration.

use vmstream::text::size;

use crate::HostConfigReport;

/// What was done about it.
pub fn host_config_line(outcome: &HostConfigReport) -> String {
    let look = |warnings: &[String]| match warnings.len() {
        0 => String::new(),
        count => format!("; {count} warning(s)"),
    };
    match outcome {
        HostConfigReport::Off => "Host configuration: not saved (HOST_CONFIG_BACKUP)".to_owned(),
        HostConfigReport::Failed { error } => format!("Host configuration: NOT SAVED: {error}"),
        HostConfigReport::Saved(saved) => {
            let (size, file, look) = (size(saved.file_bytes), saved.file.display(), look(&saved.warnings));
            format!("Host configuration: saved, {size} in {file} ({}){look}", saved.why)
        }
        HostConfigReport::Unchanged(saved) => {
            format!("Host configuration: unchanged since {}{}", saved.file.display(), look(&saved.warnings))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::literal;
    use super::*;

    #[test]
    fn each_end_has_its_line() {
        let saved = literal::session().host_config.unwrap();
        let HostConfigReport::Saved(details) = saved.clone() else { panic!("{saved:?}") };
        let unchanged = HostConfigReport::Unchanged(crate::SavedHostConfig { warnings: vec![], ..details });
        let cases = [
            (saved, "saved, 2.00 KiB in /backup/host/x.tar.gz (first version); 1 warning(s)"),
            (unchanged, "unchanged since /backup/host/x.tar.gz"),
            (HostConfigReport::Failed { error: "no space".into() }, "NOT SAVED: no space"),
            (HostConfigReport::Off, "not saved (HOST_CONFIG_BACKUP)"),
        ];
        for (outcome, want) in cases {
            assert_eq!(host_config_line(&outcome), format!("Host configuration: {want}"));
        }
    }
}

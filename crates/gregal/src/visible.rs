//! Which of the machine's folders may be shown to every job (`engine.visible`), checked before any job can run.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// Nothing below these is shown: they hold the machine's secrets, doors to what runs on it (sockets can be spoken to even
/// where nothing can be written), or what a sandbox has of its own.
const CLOSED: [&str; 9] = ["/proc", "/sys", "/dev", "/etc", "/run", "/var/run", "/var/tmp", "/boot", "/gregal"];
/// Folders of many owners: what is below may be shown, but never all of it. (`/` always holds the data folder.)
const NOT_WHOLE: [&str; 5] = ["/root", "/home", "/var", "/tmp", "/srv"];

/// The paths as they were given, or what is wrong with the first that may not be shown.
pub(crate) fn checked(wanted: &[PathBuf], data_dir: &Path) -> Result<Vec<PathBuf>> {
    for path in wanted {
        let shown = path.display();
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        ensure!(path.is_absolute() && plain, "`engine.visible` has `{shown}`, which is no absolute path without `..`");
        let real = fs::canonicalize(path)
            .with_context(|| format!("`engine.visible` has `{shown}`, which every job would miss"))?;
        let data = fs::canonicalize(data_dir)
            .with_context(|| format!("could not look at the data folder `{}`", data_dir.display()))?;
        let refused = [path, &real].into_iter().find_map(|path| refused(path, &data));
        if let Some(why) = refused {
            anyhow::bail!(
                "`engine.visible` has `{shown}`, which {why}: every tenant's job could read it\n\nhint: name no more than \
                 the programs that jobs need, such as /opt/venv"
            );
        }
    }
    Ok(wanted.to_vec())
}

/// Why a path, with all that lies below it, may not be shown. Decides only.
fn refused(path: &Path, data: &Path) -> Option<String> {
    if path.starts_with(data) || data.starts_with(path) {
        return Some("holds or is part of the data folder".to_owned());
    }
    if let Some(closed) = CLOSED.iter().find(|closed| path.starts_with(closed)) {
        return Some(format!("is part of {closed}"));
    }
    NOT_WHOLE.iter().find(|whole| path == Path::new(whole)).map(|whole| format!("is all of {whole}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn said(path: &Path, data: &Path) -> String {
        checked(&[path.to_owned()], data).unwrap_err().to_string()
    }

    #[test]
    fn what_holds_secrets_or_doors_is_refused_by_itself_from_above_and_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("site")).unwrap();
        for path in ["/proc", "/proc/self", "/sys", "/dev", "/etc/passwd"] {
            let said = said(Path::new(path), &data);
            assert!(said.contains(&format!("`{path}`")) && said.contains("every tenant"), "{said}");
        }
        for path in [data.clone(), data.join("site"), folder.path().to_owned()] {
            assert!(said(&path, &data).contains("data folder"), "{}", path.display());
        }
        for (name, target) in [("to-data", data.join("site")), ("to-etc", "/etc".into())] {
            symlink(target, folder.path().join(name)).unwrap();
            assert!(said(&folder.path().join(name), &data).contains("every tenant"), "{name}");
        }
    }

    #[test]
    fn what_lies_around_a_closed_folder_and_all_of_a_folder_of_many_owners_is_refused() {
        let refused = |path: &str| refused(Path::new(path), Path::new("/data/gregal"));
        for path in ["/", "/var", "/etc", "/run/user", "/var/tmp/x", "/gregal/input", "/home", "/root", "/tmp", "/data"]
        {
            assert!(refused(path).is_some(), "{path}");
        }
        for path in ["/opt", "/home/ada/venv", "/tmp/venv", "/procedures", "/data/gregal-venv", "/var/lib/venv"] {
            assert_eq!(refused(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_that_is_relative_winding_or_not_there_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["venv", "/opt/../etc", ""] {
            assert!(said(Path::new(path), folder.path()).contains("absolute"), "{path}");
        }
        assert!(said(Path::new("/no/such/venv"), folder.path()).contains("every job would miss"));
    }

    #[test]
    fn a_virtual_environment_beside_the_data_folder_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (data, venv) = (folder.path().join("data"), folder.path().join("data-science"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&venv).unwrap();
        let wanted = [venv, "/usr/bin".into()];
        assert_eq!(checked(&wanted, &data).unwrap(), wanted);
        assert_eq!(checked(&[], &data).unwrap(), [] as [PathBuf; 0]);
    }
}

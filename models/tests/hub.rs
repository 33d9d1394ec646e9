//! Models by name, from a small hub on the loopback interface.
#![cfg(feature = "hub")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::tensors_f32;
use ferrite_models::Error;
use ferrite_models::checkpoint::Checkpoint;
use ferrite_models::hub::{HubError, HubEvent, HubOptions, resolve};
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const ID: &str = "someone/tiny-bert";

/// How the hub answers.
#[derive(Clone, Default)]
struct Manners {
    /// The repository's files.
    files: BTreeMap<String, Vec<u8>>,
    /// Weights lie elsewhere, as on the real hub.
    redirects: bool,
    /// A status in place of any answer.
    status: Option<u16>,
    /// Every body of a file longer than this ends here.
    cut: Option<usize>,
    /// In place of the true ones.
    etag: Option<String>,
    commit: Option<String>,
    /// A header that `hf-hub` takes for granted is not sent.
    no_location: bool,
    /// No answer at all.
    silent: bool,
}

/// A hub that knows one repository.
struct Server {
    address: String,
    manners: Arc<Mutex<Manners>>,
    /// "GET /path range" of each request.
    requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn new(files: &[(&str, &[u8])]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(name, content)| (name.to_string(), content.to_vec()));
        let manners = Manners { files: files.collect(), ..Manners::default() };
        let server = Server {
            address,
            manners: Arc::new(Mutex::new(manners)),
            requests: Arc::default(),
            stop: Arc::default(),
        };
        let (manners, requests, stop) =
            (server.manners.clone(), server.requests.clone(), server.stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (manners, requests) = (manners.clone(), requests.clone());
                std::thread::spawn(move || {
                    // The other side may hang up when it likes.
                    let _ = answer(stream.unwrap(), &manners, &requests);
                });
            }
        });
        server
    }

    fn manners(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().unwrap());
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One request, one answer.
fn answer(
    mut stream: TcpStream,
    manners: &Mutex<Manners>,
    requests: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap()?;
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((key, value)) = line.split_once(':') else { break };
        headers.insert(key.to_ascii_lowercase(), value.trim().to_owned());
    }
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let range = headers.get("range").map(|range| range.trim_start_matches("bytes=").to_owned());
    let shown = range.as_deref().unwrap_or("all");
    requests.lock().unwrap().push(format!("{path} {shown}"));

    let manners = manners.lock().unwrap().clone();
    if manners.silent {
        std::thread::sleep(Duration::from_secs(5));
        return Ok(());
    }
    let refuse = |mut stream: TcpStream, status: u16| {
        write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    if let Some(status) = manners.status {
        return refuse(stream, status);
    }
    let (file, from_store) = match path.strip_prefix("/store/") {
        Some(file) => (file.to_owned(), true),
        None => {
            let file = [COMMIT, "main", "v1"]
                .iter()
                .find_map(|revision| path.strip_prefix(&format!("/{ID}/resolve/{revision}/")));
            let Some(file) = file else { return refuse(stream, 404) };
            (file.to_owned(), false)
        }
    };
    let Some(content) = manners.files.get(&file) else { return refuse(stream, 404) };
    let is_large = file.ends_with(".safetensors");
    // Large files by their SHA-256, small ones by something shorter.
    let digest = hex_sha256(content);
    let etag = manners.etag.unwrap_or(if is_large { digest } else { digest[..40].to_owned() });
    let commit = manners.commit.as_deref().unwrap_or(COMMIT);
    if manners.redirects && is_large && !from_store {
        let location = if manners.no_location {
            String::new()
        } else {
            format!("Location: http://{}/store/{file}\r\n", headers["host"])
        };
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\n{location}X-Linked-Etag: \"{etag}\"\r\nX-Repo-Commit: {commit}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let (begin, end) = match range.as_deref().and_then(|range| range.split_once('-')) {
        Some((begin, end)) => {
            let end = end.parse().map_or(content.len(), |end: usize| (end + 1).min(content.len()));
            (begin.parse().unwrap(), end)
        }
        None => (0, content.len()),
    };
    if begin >= content.len() {
        return refuse(stream, 416);
    }
    let end_shown = end - 1;
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {begin}-{end_shown}/{}\r\n\
         Content-Length: {}\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {commit}\r\nConnection: close\r\n\r\n",
        content.len(),
        end - begin,
    )?;
    let stop = manners.cut.map_or(end, |cut| end.min(cut.max(begin)));
    stream.write_all(&content[begin..stop])
}

fn weights() -> Vec<u8> {
    tensors_f32([("a", &[100][..], (0..100).map(|i| i as f32).collect())])
}

const MODULES: &str = r#"[{"idx": 0, "name": "0", "path": "", "type": "x.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "x.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "x.Normalize"}]"#;

/// A hub with a small sentence-transformers model, and options that lead there.
fn hub() -> (Server, HubOptions, tempfile::TempDir) {
    let server = Server::new(&[
        ("config.json", b"{}"),
        ("model.safetensors", &weights()),
        ("vocab.txt", b"[PAD]\n[UNK]\n"),
        ("modules.json", MODULES.as_bytes()),
        ("1_Pooling/config.json", b"{\"x\": 1}"),
        ("README.md", b"not needed"),
    ]);
    let home = tempfile::tempdir().unwrap();
    let options = options(&server, home.path());
    (server, options, home)
}

fn options(server: &Server, home: &Path) -> HubOptions {
    let mut options = HubOptions::new(home.join("hub"), home.join("packages"));
    options.endpoint = Some(server.address.clone());
    options
}

fn quiet(_: HubEvent<'_>) {}

fn get(name: &str, options: &HubOptions) -> Result<PathBuf, HubError> {
    resolve(name, options, &mut quiet)
}

#[test]
fn a_folder_is_itself() {
    let (server, options, home) = hub();
    let folder = home.path().to_str().unwrap();
    assert_eq!(get(folder, &options).unwrap(), home.path());
    assert!(server.requests().is_empty());
}

#[test]
fn a_model_is_downloaded_once() {
    let (server, options, _home) = hub();
    for redirects in [false, true] {
        std::fs::remove_dir_all(&options.cache).ok();
        server.manners(|manners| manners.redirects = redirects);
        let mut progress = Vec::new();
        let folder = resolve(ID, &options, &mut |event| {
            if let HubEvent::Progress { file, done, total } = event {
                progress.push((file.to_owned(), done, total));
            }
        })
        .unwrap();
        assert_eq!(folder, options.cache.join("models--someone--tiny-bert/snapshots").join(COMMIT));
        for (name, content) in server.manners.lock().unwrap().files.iter() {
            let wanted = name != "README.md";
            assert_eq!(
                std::fs::read(folder.join(name)).ok(),
                wanted.then(|| content.clone()),
                "{name}"
            );
        }
        assert_eq!(Checkpoint::open(&folder).unwrap().tensors().len(), 1);
        let size = weights().len() as u64;
        assert!(progress.contains(&("model.safetensors".to_owned(), size, size)), "{progress:?}");
        let reference = options.cache.join("models--someone--tiny-bert/refs/main");
        assert_eq!(std::fs::read_to_string(reference).unwrap(), COMMIT);

        // The second time, nothing is asked for: neither what is there nor what is known to be not.
        let asked = server.requests().len();
        assert_eq!(get(ID, &options).unwrap(), folder);
        assert_eq!(get(&format!("{ID}@{COMMIT}"), &options).unwrap(), folder);
        assert_eq!(server.requests().len(), asked);
    }
}

#[test]
fn a_revision_has_its_own_reference() {
    let (server, options, _home) = hub();
    let folder = get(&format!("{ID}@v1"), &options).unwrap();
    assert!(server.requests()[0].contains("/resolve/v1/config.json"));
    let references = options.cache.join("models--someone--tiny-bert/refs");
    assert_eq!(std::fs::read_to_string(references.join("v1")).unwrap(), COMMIT);
    assert!(!references.join("main").exists());
    assert!(folder.ends_with(COMMIT));
}

#[test]
fn offline_only_the_cache_counts() {
    let (server, mut options, _home) = hub();
    options.offline = true;
    let error = get(ID, &options).unwrap_err();
    assert!(matches!(&error, HubError::Offline { name, .. } if name == ID), "{error}");
    assert!(server.requests().is_empty());
    options.offline = false;
    let folder = get(ID, &options).unwrap();
    drop(server);
    options.offline = true;
    assert_eq!(get(ID, &options).unwrap(), folder);
}

#[test]
fn what_a_python_program_left_will_do() {
    let (server, mut options, _home) = hub();
    // Complete enough to be used, but nobody has asked for the modules.
    let root = options.cache.join("models--someone--tiny-bert");
    for (name, content) in
        [("config.json", &b"{}"[..]), ("model.safetensors", &weights()), ("tokenizer.json", b"{}")]
    {
        common::write(&root, &format!("snapshots/{COMMIT}/{name}"), content);
    }
    common::write(&root, "refs/main", COMMIT.as_bytes());
    options.offline = true;
    let folder = get(ID, &options).unwrap();
    assert!(!folder.join("modules.json").exists());
    // Also where the network fails, with a word about it.
    options.offline = false;
    server.manners(|manners| manners.status = Some(503));
    let mut messages = String::new();
    let again = resolve(ID, &options, &mut |event| {
        if let HubEvent::Message(text) = event {
            messages += text;
        }
    });
    assert_eq!(again.unwrap(), folder);
    assert!(
        messages.contains("503") && messages.contains("using the copy in the cache"),
        "{messages}"
    );
    // Where it works, the rest is fetched, and only that.
    server.manners(|manners| manners.status = None);
    assert_eq!(get(ID, &options).unwrap(), folder);
    assert!(folder.join("modules.json").exists() && folder.join("1_Pooling/config.json").exists());
    assert!(!server.requests().iter().any(|request| request.contains("model.safetensors")));
}

#[test]
fn a_model_that_is_not_there_is_told_so() {
    let (server, options, _home) = hub();
    let error = get("someone/else", &options).unwrap_err();
    assert!(
        matches!(&error, HubError::NotFound { name, status: 404, .. } if name == "someone/else")
    );
    server.manners(|manners| manners.status = Some(401));
    let error = get(ID, &options).unwrap_err();
    assert!(matches!(error, HubError::NotFound { status: 401, .. }));
    assert!(error.to_string().contains("HF_TOKEN"));
    // A repository without weights that can be read.
    server.manners(|manners| {
        manners.status = None;
        manners.files.remove("model.safetensors");
    });
    let error = get(ID, &options).unwrap_err();
    assert!(
        matches!(&error, HubError::NotFound { file, .. } if file == "model.safetensors.index.json"),
        "{error}"
    );
    assert!(
        get("no/such/folder", &options).is_err_and(|e| matches!(e, HubError::InvalidName { .. }))
    );
}

#[test]
fn a_download_that_broke_off_is_continued() {
    let (server, options, _home) = hub();
    server.manners(|manners| manners.cut = Some(150));
    let error = get(ID, &options).unwrap_err();
    assert!(
        matches!(&error, HubError::BrokenOff { file, .. } | HubError::Damaged { file, .. }
            if file == "modules.json"),
        "{error}"
    );
    assert!(!options.cache.join("models--someone--tiny-bert/refs/main").exists());
    server.manners(|manners| manners.cut = None);
    let folder = get(ID, &options).unwrap();
    assert_eq!(std::fs::read(folder.join("modules.json")).unwrap(), MODULES.as_bytes());
    assert!(server.requests().iter().any(|request| request.ends_with("modules.json 150-")));
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn a_damaged_file_is_not_kept() {
    let (server, options, _home) = hub();
    let wrong = "0".repeat(64);
    server.manners(|manners| manners.etag = Some(wrong.clone()));
    let error = get(ID, &options).unwrap_err();
    assert!(matches!(&error, HubError::Damaged { expected, .. } if *expected == wrong), "{error}");
    server.manners(|manners| manners.etag = None);
    let folder = get(ID, &options).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn a_download_whose_last_step_was_lost_is_finished() {
    let (_server, options, _home) = hub();
    let digest = hex_sha256(&weights());
    let root = options.cache.join("models--someone--tiny-bert");
    // All bytes are there, or even too many, but the file has not got its name.
    common::write(&root, &format!("blobs/{digest}.part"), &[&weights()[..], b"more"].concat());
    let folder = get(ID, &options).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights());
    // A link whose target was deleted is no file.
    std::fs::remove_file(root.join("blobs").join(digest)).unwrap();
    assert!(!folder.join("model.safetensors").exists());
    get(ID, &options).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn answers_that_would_become_paths_elsewhere_are_refused() {
    let (server, options, home) = hub();
    for bad in ["../../../outside", "/tmp/outside", "a/b", ".", ""] {
        server.manners(|manners| manners.etag = Some(bad.to_owned()));
        let error = get(ID, &options).unwrap_err();
        assert!(matches!(error, HubError::Protocol { .. }), "etag {bad:?}: {error}");
        server.manners(|manners| (manners.etag, manners.commit) = (None, Some(bad.to_owned())));
        let error = get(ID, &options).unwrap_err();
        assert!(matches!(error, HubError::Protocol { .. }), "commit {bad:?}: {error}");
        server.manners(|manners| manners.commit = None);
    }
    let index = r#"{"weight_map": {"a": "../../outside.safetensors"}}"#;
    let modules = MODULES.replace("1_Pooling", "../1_Pooling");
    for (name, content) in [("model.safetensors.index.json", index), ("modules.json", &modules)] {
        server.manners(|manners| {
            manners.files.remove("model.safetensors");
            manners.files.insert(name.to_owned(), content.as_bytes().to_vec());
        });
        std::fs::remove_dir_all(&options.cache).ok();
        let error = get(ID, &options).unwrap_err();
        assert!(matches!(error, HubError::Model(Error::UnsafePath { .. })), "{name}: {error}");
    }
    assert!(!server.requests().iter().any(|request| request.contains("outside")));
    assert!(
        std::fs::read_dir(home.path()).unwrap().all(|entry| entry.unwrap().file_name() == "hub")
    );
}

#[test]
fn an_answer_that_trips_the_client_is_an_error() {
    let (server, options, _home) = hub();
    server.manners(|manners| (manners.redirects, manners.no_location) = (true, true));
    let error = get(ID, &options).unwrap_err();
    assert!(matches!(error, HubError::Protocol { .. }), "{error}");
}

#[test]
fn shards_are_downloaded() {
    let (server, options, _home) = hub();
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    server.manners(|manners| {
        manners.files.remove("model.safetensors");
        let second = tensors_f32([("b", &[1][..], vec![1.0])]);
        for (name, content) in [
            ("model.safetensors.index.json", index.as_bytes().to_vec()),
            ("model-1.safetensors", weights()),
            ("model-2.safetensors", second),
        ] {
            manners.files.insert(name.to_owned(), content);
        }
    });
    let folder = get(ID, &options).unwrap();
    assert_eq!(Checkpoint::open(&folder).unwrap().tensors().len(), 2);
    let asked = server.requests().len();
    get(ID, &options).unwrap();
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn an_encoder_in_a_folder_of_its_own_is_found_there() {
    let (server, options, _home) = hub();
    server.manners(|manners| {
        let files = std::mem::take(&mut manners.files);
        // The question for the commit goes to the file that every model has.
        manners.files.insert("config.json".to_owned(), b"{}".to_vec());
        for (name, content) in files {
            let inner = ["config.json", "model.safetensors", "vocab.txt"].contains(&&*name);
            let name = if inner { format!("0_Transformer/{name}") } else { name };
            manners.files.insert(name, content);
        }
        let modules = MODULES.replacen(r#""path": """#, r#""path": "0_Transformer""#, 1);
        manners.files.insert("modules.json".to_owned(), modules.into_bytes());
    });
    let folder = get(ID, &options).unwrap();
    assert_eq!(Checkpoint::open(folder.join("0_Transformer")).unwrap().tensors().len(), 1);
}

#[test]
fn two_at_once_download_once() {
    let (server, options, _home) = hub();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| get(ID, &options).unwrap());
        }
    });
    let whole = server.requests().into_iter();
    assert_eq!(whole.filter(|request| request.ends_with("model.safetensors 0-")).count(), 1);
}

#[test]
fn a_hub_that_cannot_be_reached_fails_soon() {
    let (server, mut options, _home) = hub();
    let start = Instant::now();
    // A port that nobody listens on.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    options.endpoint = Some(format!("http://{free}"));
    let error = get(ID, &options).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    // A name that is none, by the definition of that ending.
    options.endpoint = Some("http://hub.invalid".to_owned());
    options.patience = Duration::from_secs(3);
    let error = get(ID, &options).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. } | HubError::Stalled { .. }), "{error}");
    // A server that says nothing.
    options.endpoint = Some(server.address.clone());
    options.patience = Duration::from_millis(200);
    server.manners(|manners| manners.silent = true);
    let error = get(ID, &options).unwrap_err();
    assert!(matches!(error, HubError::Stalled { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn without_hub_and_python_the_user_is_told_what_to_do() {
    let (server, mut options, _home) = hub();
    server.manners(|manners| manners.status = Some(503));
    options.python = PathBuf::from("no-such-python");
    let error = get("sentence-transformers/all-MiniLM-L6-v2", &options).unwrap_err();
    assert!(matches!(error, HubError::Package { .. }));
    assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
    // Another version of the model is not in the package.
    let error = get("sentence-transformers/all-MiniLM-L6-v2@v1", &options).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
}

/// Not a test of its own: the child of the next one, which sets the environment.
#[test]
fn child() {
    let Ok(expected) = std::env::var("FERRITE_TEST_EXPECTED") else { return };
    match get(ID, &HubOptions::from_env()) {
        Ok(folder) => assert_eq!(folder, PathBuf::from(expected)),
        Err(error) => assert!(error.to_string().contains(&expected), "{error}"),
    }
}

#[test]
fn the_environment_is_honoured() {
    let (server, options, home) = hub();
    let run = |expected: &str, variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["child", "--exact"]).env("FERRITE_TEST_EXPECTED", expected);
        for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "TRANSFORMERS_OFFLINE"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", home.path()).env("HF_ENDPOINT", &server.address);
        command.env("HF_HUB_OFFLINE", "0").envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    };
    run("HF_HUB_OFFLINE forbids", &[("HF_HUB_OFFLINE", "1")]);
    assert!(server.requests().is_empty());
    // `HF_HOME/hub` is the cache of the options.
    let snapshot = options.cache.join("models--someone--tiny-bert/snapshots").join(COMMIT);
    run(snapshot.to_str().unwrap(), &[]);
    assert!(!server.requests().is_empty());
    let asked = server.requests().len();
    run(snapshot.to_str().unwrap(), &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(server.requests().len(), asked);
    let other = home.path().join("other");
    let there = other.join("models--someone--tiny-bert/snapshots").join(COMMIT);
    run(there.to_str().unwrap(), &[("HF_HUB_CACHE", other.to_str().unwrap())]);
    assert!(server.requests().len() > asked);
}

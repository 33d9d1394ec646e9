//! A file system in memory that fails on demand, and forgets on a power cut what it may forget.
//!
//! The rules are those of POSIX, which promises less than any one system keeps:
//! - what was written to a file lasts if the file was synced afterwards; if not, each sector of 512
//!   bytes is there or is zeros, and the file may end anywhere in what was written;
//! - a name lasts if its folder was synced afterwards; if not, each change of names is there or is
//!   not, whatever became of others before and after it. A rename is one change.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::path::{Component, Path};
use std::rc::Rc;

use super::disk::Disk;

const SECTOR: usize = 512;

/// A file or folder, whatever its name.
type Inode = usize;

#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>),
    Folder(BTreeMap<String, Inode>),
}

/// What was done, for a power cut to undo.
#[derive(Clone, Debug)]
enum Operation {
    Write(Inode, Vec<u8>),
    Sync(Inode),
    /// Names in a folder that now mean something else, or nothing.
    Names(Inode, Vec<(String, Option<Inode>)>),
    SyncFolder(Inode),
}

/// What an operation is made to end with.
pub(super) type Fault = ErrorKind;

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    operations: Vec<Operation>,
    /// Calls so far.
    calls: usize,
    /// The call that fails, and how.
    fault: Option<(usize, Fault)>,
}

/// The file system. Its root folder is inode 0.
#[derive(Clone, Debug)]
pub(super) struct Simulated {
    state: Rc<RefCell<State>>,
}

/// A file that is being written.
pub(super) struct SimulatedFile {
    disk: Simulated,
    inode: Inode,
}

impl Simulated {
    pub(super) fn new() -> Simulated {
        let nodes = vec![Node::Folder(BTreeMap::new())];
        let state = State { nodes, operations: Vec::new(), calls: 0, fault: None };
        Simulated { state: Rc::new(RefCell::new(state)) }
    }

    /// Makes the `n`th call from now on fail.
    pub(super) fn fail(&self, n: usize, fault: Fault) {
        let mut state = self.state.borrow_mut();
        state.fault = Some((state.calls + n, fault));
    }

    /// The calls so far.
    pub(super) fn calls(&self) -> usize {
        self.state.borrow().calls
    }

    /// The changes so far.
    pub(super) fn operations(&self) -> usize {
        self.state.borrow().operations.len()
    }

    /// Whatever is at hand now, as real files.
    pub(super) fn export(&self, to: &Path) {
        export(&self.state.borrow().nodes, 0, to);
    }

    /// What is left if the power goes after the first `count` changes, as real files. `coin` says of
    /// each change that may be lost whether it is, and where it is torn.
    pub(super) fn cut(&self, count: usize, coin: &mut impl FnMut(usize) -> usize, to: &Path) {
        let state = self.state.borrow();
        let done = &state.operations[..count];
        let mut nodes: Vec<Node> = state
            .nodes
            .iter()
            .map(|node| match node {
                Node::File(_) => Node::File(Vec::new()),
                Node::Folder(_) => Node::Folder(BTreeMap::new()),
            })
            .collect();
        for (index, operation) in done.iter().enumerate() {
            let is_synced = |synced: &dyn Fn(&Operation) -> bool| done[index..].iter().any(synced);
            match operation {
                Operation::Write(inode, bytes) => {
                    let Node::File(content) = &mut nodes[*inode] else { unreachable!() };
                    let lasts =
                        is_synced(&|later| matches!(later, Operation::Sync(i) if i == inode));
                    if lasts {
                        content.extend(bytes);
                    } else {
                        match coin(4) {
                            0 => {}
                            1 => content.extend(bytes),
                            _ => {
                                let torn = &bytes[..coin(bytes.len() + 1)];
                                for sector in torn.chunks(SECTOR) {
                                    let is_there = coin(2) == 1;
                                    let byte = |&byte: &u8| if is_there { byte } else { 0 };
                                    content.extend(sector.iter().map(byte));
                                }
                            }
                        }
                    }
                }
                Operation::Names(folder, names) => {
                    let lasts = is_synced(
                        &|later| matches!(later, Operation::SyncFolder(i) if i == folder),
                    );
                    if lasts || coin(2) == 1 {
                        let Node::Folder(entries) = &mut nodes[*folder] else { unreachable!() };
                        change(entries, names);
                    }
                }
                Operation::Sync(_) | Operation::SyncFolder(_) => {}
            }
        }
        export(&nodes, 0, to);
    }

    /// Counts a call, and lets it fail if that is wanted.
    fn call(&self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.calls += 1;
        match state.fault {
            Some((call, fault)) if call == state.calls => Err(fault.into()),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Inode> {
        let state = self.state.borrow();
        let mut inode = 0;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Folder(entries) = &state.nodes[inode] else {
                return Err(ErrorKind::NotADirectory.into());
            };
            let name = name.to_str().expect("test names are Unicode");
            inode = *entries.get(name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(inode)
    }

    /// The folder that a path is in, and its name there.
    fn place(&self, path: &Path) -> io::Result<(Inode, String)> {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        Ok((self.find(path.parent().expect("a folder"))?, name.to_owned()))
    }

    fn add(&self, path: &Path, node: Node) -> io::Result<Inode> {
        if self.find(path).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let (folder, name) = self.place(path)?;
        let inode = self.state.borrow().nodes.len();
        self.state.borrow_mut().nodes.push(node);
        self.rename_in(folder, vec![(name, Some(inode))]);
        Ok(inode)
    }

    fn rename_in(&self, folder: Inode, names: Vec<(String, Option<Inode>)>) {
        let mut state = self.state.borrow_mut();
        let Node::Folder(entries) = &mut state.nodes[folder] else { panic!("not a folder") };
        change(entries, &names);
        state.operations.push(Operation::Names(folder, names));
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        let (folder, name) = self.place(path)?;
        self.rename_in(folder, vec![(name, None)]);
        Ok(())
    }
}

fn change(entries: &mut BTreeMap<String, Inode>, names: &[(String, Option<Inode>)]) {
    for (name, inode) in names {
        match inode {
            Some(inode) => entries.insert(name.clone(), *inode),
            None => entries.remove(name),
        };
    }
}

fn export(nodes: &[Node], inode: Inode, to: &Path) {
    match &nodes[inode] {
        Node::File(content) => std::fs::write(to, content).expect("a real disk with room"),
        Node::Folder(entries) => {
            std::fs::create_dir_all(to).expect("a real disk with room");
            entries.iter().for_each(|(name, &inode)| export(nodes, inode, &to.join(name)));
        }
    }
}

impl Write for SimulatedFile {
    /// Takes a part only, as any write may.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.call()?;
        let taken = &bytes[..bytes.len().min(700)];
        let mut state = self.disk.state.borrow_mut();
        let Node::File(content) = &mut state.nodes[self.inode] else { panic!("not a file") };
        content.extend(taken);
        state.operations.push(Operation::Write(self.inode, taken.to_vec()));
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Simulated {
    type File = SimulatedFile;

    fn create(&self, path: &Path) -> io::Result<SimulatedFile> {
        self.call()?;
        let inode = self.add(path, Node::File(Vec::new()))?;
        Ok(SimulatedFile { disk: self.clone(), inode })
    }

    fn sync(&self, file: SimulatedFile) -> io::Result<()> {
        self.call()?;
        self.state.borrow_mut().operations.push(Operation::Sync(file.inode));
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<(Box<dyn Read>, u64)> {
        self.call()?;
        let inode = self.find(path)?;
        match &self.state.borrow().nodes[inode] {
            Node::File(content) => {
                Ok((Box::new(Cursor::new(content.clone())), content.len() as u64))
            }
            Node::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        self.add(path, Node::Folder(BTreeMap::new())).map(|_| ())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        let inode = self.find(path)?;
        self.state.borrow_mut().operations.push(Operation::SyncFolder(inode));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.call()?;
        let inode = self.find(path)?;
        match &self.state.borrow().nodes[inode] {
            Node::Folder(entries) => Ok(entries.keys().cloned().collect()),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        let inode = self.find(from)?;
        let ((folder, old), (other, new)) = (self.place(from)?, self.place(to)?);
        assert_eq!(folder, other, "renamed within a folder");
        if self.find(to).is_ok() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.rename_in(folder, vec![(old, None), (new, Some(inode))]);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        self.remove(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        if !self.is_empty(path)? {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.remove(path)
    }
}

impl Simulated {
    /// Whether a folder is empty.
    fn is_empty(&self, path: &Path) -> io::Result<bool> {
        let inode = self.find(path)?;
        let state = self.state.borrow();
        Ok(matches!(&state.nodes[inode], Node::Folder(entries) if entries.is_empty()))
    }
}

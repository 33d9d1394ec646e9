//! A trie in a flat double array: one look at one place per byte.
//!
//! The child of node `s` along byte `b` is node `base[s] ^ b`, if that node's
//! `check` says that its parent is `s` (Aoe 1989, with XOR for the sum, which
//! keeps all children of a node inside one block of 256).

/// No such node.
pub(crate) const NONE: u32 = u32::MAX;

const BLOCK: usize = 256;
/// How many of the newest blocks are searched for room, which bounds the
/// time to build. More fill the array a little better.
const OPEN_BLOCKS: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Node {
    base: u32,
    check: u32,
}

/// A node that [`Trie::build`] has just placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) node: u32,
    pub(crate) parent: u32,
    pub(crate) byte: u8,
    /// The index of the key that ends here.
    pub(crate) key: Option<u32>,
}

/// The set of keys.
#[derive(Clone, Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
}

impl Trie {
    /// The root, the node of the empty key.
    pub(crate) const ROOT: u32 = 0;

    /// Builds the trie of `keys`, which are sorted and differ from each other.
    /// The nodes come back too, the root left out, nearer ones first.
    pub(crate) fn build<K: AsRef<[u8]>>(keys: &[K]) -> (Self, Vec<Placed>) {
        let mut places = Places::default();
        places.take(0);
        let mut nodes = vec![Node { base: 0, check: NONE }; BLOCK];
        let mut order: Vec<Placed> = Vec::new();
        // Nodes whose children are still to be placed, with their range of keys.
        let mut queue = std::collections::VecDeque::from([(Self::ROOT, 0, keys.len(), 0)]);
        let mut children: Vec<(u8, usize, usize)> = Vec::new();
        while let Some((node, mut low, high, depth)) = queue.pop_front() {
            children.clear();
            if low < high && keys[low].as_ref().len() == depth {
                low += 1;
            }
            while low < high {
                let byte = keys[low].as_ref()[depth];
                let same = keys[low..high].partition_point(|key| key.as_ref()[depth] == byte);
                children.push((byte, low, low + same));
                low += same;
            }
            if children.is_empty() {
                continue;
            }
            let base = places.find(&children);
            nodes.resize(places.len(), Node { base: 0, check: NONE });
            nodes[node as usize].base = base;
            for &(byte, low, high) in &children {
                let child = base ^ u32::from(byte);
                places.take(child as usize);
                nodes[child as usize].check = node;
                let ends = keys[low].as_ref().len() == depth + 1;
                let key = ends.then_some(low as u32);
                order.push(Placed { node: child, parent: node, byte, key });
                queue.push_back((child, low, high, depth + 1));
            }
        }
        (Self { nodes }, order)
    }

    /// The child of `node` along `byte`, or [`NONE`].
    #[inline]
    pub(crate) fn child(&self, node: u32, byte: u8) -> u32 {
        let child = self.nodes[node as usize].base ^ u32::from(byte);
        if self.nodes[child as usize].check == node { child } else { NONE }
    }

    /// How long an array has to be that holds something for every node.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}

/// Which places of the array are free, 256 bits a block.
#[derive(Default)]
struct Places {
    free: Vec<[u64; BLOCK / 64]>,
}

impl Places {
    fn len(&self) -> usize {
        self.free.len() * BLOCK
    }

    fn take(&mut self, place: usize) {
        while self.len() <= place {
            self.free.push([u64::MAX; BLOCK / 64]);
        }
        self.free[place / BLOCK][place % BLOCK / 64] &= !(1 << (place % 64));
    }

    fn is_free(&self, place: usize) -> bool {
        self.free[place / BLOCK][place % BLOCK / 64] >> (place % 64) & 1 == 1
    }

    /// A base from which all children fall on free places.
    fn find(&mut self, children: &[(u8, usize, usize)]) -> u32 {
        let first = children[0].0;
        for block in self.free.len().saturating_sub(OPEN_BLOCKS)..self.free.len() {
            for quarter in 0..BLOCK / 64 {
                let mut bits = self.free[block][quarter];
                while bits != 0 {
                    let place = block * BLOCK + quarter * 64 + bits.trailing_zeros() as usize;
                    let base = place ^ usize::from(first);
                    if children.iter().all(|&(byte, ..)| self.is_free(base ^ usize::from(byte))) {
                        return base as u32;
                    }
                    bits &= bits - 1;
                }
            }
        }
        let base = self.len();
        self.free.push([u64::MAX; BLOCK / 64]);
        base as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(trie: &Trie, key: &[u8]) -> u32 {
        key.iter().fold(Trie::ROOT, |node, &byte| match node {
            NONE => NONE,
            node => trie.child(node, byte),
        })
    }

    #[test]
    fn empty() {
        let (trie, order) = Trie::build::<&[u8]>(&[]);
        assert!(order.is_empty());
        assert_eq!(trie.child(Trie::ROOT, 0), NONE);
        assert_eq!(trie.child(Trie::ROOT, 255), NONE);
    }

    proptest! {
        #[test]
        fn holds_its_keys_and_no_others(
            keys in proptest::collection::btree_set(proptest::collection::vec(0u8..5, 0..6), 0..200),
            others in proptest::collection::vec(proptest::collection::vec(0u8..6, 0..7), 50),
        ) {
            let keys: Vec<_> = keys.into_iter().collect();
            let (trie, order) = Trie::build(&keys);
            let found = |key: &[u8]| order.iter().find(|p| p.node == walk(&trie, key))
                .and_then(|p| p.key);
            for (i, key) in keys.iter().enumerate().filter(|(_, key)| !key.is_empty()) {
                prop_assert_eq!(found(key), Some(i as u32));
            }
            for other in others.iter().filter(|key| !key.is_empty()) {
                prop_assert_eq!(found(other).is_some(), keys.contains(other));
                let prefix = keys.iter().any(|key| key.starts_with(other));
                prop_assert_eq!(walk(&trie, other) != NONE, prefix);
            }
        }
    }
}

//! The prefixes of all hypotheses of a batch, as a tree.

/// A tree whose nodes are tokens that the decoder has read or will read next, each behind its parent.
/// The number of a node is that of its row in the [`Past`](super::super::Past): a hypothesis is a node,
/// and what it sees is the way from the root to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    tokens: Vec<u32>,
    /// A root is its own.
    parents: Vec<u32>,
}

impl Prefixes {
    /// Forgets all, keeping the memory.
    pub(super) fn clear(&mut self) {
        self.tokens.clear();
        self.parents.clear();
    }

    /// The number of nodes.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Adds a node without a parent.
    pub(super) fn push_root(&mut self, token: u32) -> u32 {
        self.push(self.tokens.len() as u32, token)
    }

    /// Adds a node, and returns its number.
    pub(super) fn push(&mut self, parent: u32, token: u32) -> u32 {
        let node = u32::try_from(self.tokens.len()).expect("fewer than 2^32 positions");
        self.tokens.push(token);
        self.parents.push(parent);
        node
    }

    /// The token of a node.
    pub(super) fn token(&self, node: u32) -> u32 {
        self.tokens[node as usize]
    }

    /// Writes the way from the root to a node, both included.
    pub(super) fn path(&self, mut node: u32, path: &mut Vec<u32>) {
        path.clear();
        path.push(node);
        while self.parents[node as usize] != node {
            node = self.parents[node as usize];
            path.push(node);
        }
        path.reverse();
    }

    /// The tokens behind the root, up to a node.
    pub(super) fn tokens(&self, node: u32) -> Vec<u32> {
        let mut path = Vec::new();
        self.path(node, &mut path);
        path[1..].iter().map(|&node| self.token(node)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_share_their_beginning() {
        let mut prefixes = Prefixes::default();
        let root = prefixes.push_root(1);
        let other = prefixes.push_root(1);
        let a = prefixes.push(root, 10);
        let (b, c) = (prefixes.push(a, 20), prefixes.push(a, 30));
        let mut path = vec![9, 9];
        prefixes.path(c, &mut path);
        assert_eq!((path, prefixes.token(c)), (vec![root, a, c], 30));
        assert_eq!((prefixes.tokens(b), prefixes.tokens(c)), (vec![10, 20], vec![10, 30]));
        assert_eq!((prefixes.tokens(other), prefixes.len()), (vec![], 5));
    }
}

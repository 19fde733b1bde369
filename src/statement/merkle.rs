//! The Merkle tree of RFC 6962 section 2.1, over the lines of the ledger in their order.
//!
//! Nothing here keeps the leaves. A [`Frontier`] is what a growing tree needs to know of its past: the roots of the complete
//! subtrees that it consists of, at most 64. A proof is made in one pass over the leaves, by [`Prover`], which begins at a
//! frontier where the leaves before it are gone.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// The hash of a leaf: of a record, without its newline.
pub fn leaf(record: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(record).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that grows: how many leaves it has, and the roots of its complete subtrees, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Hash>,
}

impl Frontier {
    /// The tree without leaves.
    pub const fn empty() -> Self {
        Self { size: 0, nodes: Vec::new() }
    }

    /// What was stored of a tree; none if a tree of this size has another number of complete subtrees.
    pub fn restored(size: u64, nodes: Vec<Hash>) -> Option<Self> {
        (u32::try_from(nodes.len()).ok()? == size.count_ones()).then_some(Self { size, nodes })
    }

    /// How many leaves it has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its complete subtrees, the largest first: as many as `size` has ones.
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut new = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                new = node(&left, &new);
            }
        }
        self.nodes.push(new);
        self.size = self.size.saturating_add(1);
    }

    /// The root; of the empty tree the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        let Some(last) = nodes.next() else { return Sha256::digest([]).into() };
        nodes.fold(*last, |right, left| node(left, &right))
    }

    /// Where each complete subtree begins and ends.
    fn ranges(&self) -> impl Iterator<Item = (Range<u64>, Hash)> {
        let mut start = 0;
        let sizes = (0..64).rev().map(|bit| 1_u64 << bit).filter(|bit| self.size & bit != 0);
        sizes.zip(&self.nodes).map(move |(len, hash)| {
            let range = start..start + len;
            start = range.end;
            (range, *hash)
        })
    }
}

/// The largest power of two below `size`, which is at least 2.
const fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The subtrees of whose roots the proof consists that leaf `index` is in the tree of `size` leaves, in the order of the
/// proof; none if it is not.
fn inclusion(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let (mut within, mut path) = (0..size, Vec::new());
    while within.end - within.start > 1 {
        let middle = within.start + split(within.end - within.start);
        if index < middle {
            path.push(middle..within.end);
            within.end = middle;
        } else {
            path.push(within.start..middle);
            within.start = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// The same for the proof that the tree of `new` leaves continues that of `old` (RFC 6962 section 2.1.2).
fn consistency(old: u64, new: u64) -> Option<Vec<Range<u64>>> {
    if old == 0 || old > new {
        return None;
    }
    let (mut within, mut old, mut whole, mut path) = (0..new, old, true, Vec::new());
    while old < within.end - within.start {
        let first = split(within.end - within.start);
        let middle = within.start + first;
        if old <= first {
            path.push(middle..within.end);
            within.end = middle;
        } else {
            path.push(within.start..middle);
            within.start = middle;
            (old, whole) = (old - first, false);
        }
    }
    if !whole {
        path.push(within);
    }
    path.reverse();
    Some(path)
}

/// Makes one proof in one pass over the leaves.
#[derive(Debug)]
pub struct Prover {
    /// What the proof consists of, and of each what was given of it.
    parts: Vec<(Range<u64>, Frontier)>,
    next: u64,
    end: u64,
}

impl Prover {
    /// For the proof that leaf `index` (the record `index + 1`) is in the tree of `size` leaves. `base`: the tree before the
    /// first leaf that will be given.
    pub fn inclusion(index: u64, size: u64, base: &Frontier) -> Option<Self> {
        (base.size() <= index).then_some(())?;
        Self::over(inclusion(index, size)?, size, base)
    }

    /// For the proof that the tree of `new` leaves continues that of `old`.
    pub fn consistency(old: u64, new: u64, base: &Frontier) -> Option<Self> {
        (base.size() <= old).then_some(())?;
        Self::over(consistency(old, new)?, new, base)
    }

    fn over(ranges: Vec<Range<u64>>, end: u64, base: &Frontier) -> Option<Self> {
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            // A part that begins before the base consists, so far, of complete subtrees of the base.
            let inside = |one: &Range<u64>| one.start >= range.start && one.end <= range.end;
            let (mut size, mut nodes) = (0, Vec::new());
            for (own, hash) in base.ranges().filter(|(own, _)| inside(own)) {
                size += own.end - own.start;
                nodes.push(hash);
            }
            let known = base.size().clamp(range.start, range.end) - range.start;
            let tree = Frontier::restored(size, nodes).filter(|_| size == known)?;
            parts.push((range, tree));
        }
        Some(Self { parts, next: base.size(), end })
    }

    /// Takes the next leaf; those beyond the tree are passed over.
    pub fn push(&mut self, leaf: Hash) {
        let at = self.next;
        self.next = self.next.saturating_add(1);
        if let Some((_, tree)) = self.parts.iter_mut().find(|(range, _)| range.contains(&at)) {
            tree.push(leaf);
        }
    }

    /// The proof, once the last leaf of the tree was given; none before.
    pub fn finish(self) -> Option<Vec<Hash>> {
        (self.next >= self.end).then(|| self.parts.iter().map(|(_, tree)| tree.root()).collect())
    }
}

/// Whether `proof` shows that `leaf` has this index in the tree of `size` leaves with this root (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(index: u64, size: u64, leaf: Hash, proof: &[Hash], root: &Hash) -> bool {
    let Some(path) = inclusion(index, size).filter(|path| path.len() == proof.len()) else { return false };
    let computed =
        path.iter().zip(proof).fold(
            leaf,
            |own, (range, sibling)| {
                if range.start > index { node(&own, sibling) } else { node(sibling, &own) }
            },
        );
    computed == *root
}

/// Whether `proof` shows that the tree of `new` leaves with its root begins with the tree of `old` leaves with its root
/// (RFC 9162 section 2.1.4.2). Everything continues the empty tree, without a proof.
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size == new_size {
        let same =
            old_size == 0 && *old_root == Frontier::empty().root() || old_size == new_size && old_root == new_root;
        return proof.is_empty() && same;
    }
    let Some(path) = consistency(old_size, new_size).filter(|path| path.len() == proof.len()) else { return false };
    let mut parts = path.iter().zip(proof);
    // Where the old tree is a complete subtree of the new one, its root is not repeated in the proof.
    let first = if old_size.is_power_of_two() { Some(*old_root) } else { parts.next().map(|(_, hash)| *hash) };
    let Some(first) = first else { return false };
    let (was, is) = parts.fold((first, first), |(was, is), (range, sibling)| {
        if range.start >= old_size { (was, node(&is, sibling)) } else { (node(sibling, &was), node(sibling, &is)) }
    });
    was == *old_root && is == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf(format!("record {n}").as_bytes())).collect()
    }

    /// MTH of RFC 6962 section 2.1, as it is written there.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            more => {
                let k = more.len().next_power_of_two() / 2;
                node(&mth(&more[..k]), &mth(&more[k..]))
            }
        }
    }

    fn tree(leaves: &[Hash]) -> Frontier {
        let mut tree = Frontier::empty();
        leaves.iter().for_each(|one| tree.push(*one));
        tree
    }

    fn proof(mut prover: Prover, leaves: &[Hash]) -> Vec<Hash> {
        leaves.iter().for_each(|one| prover.push(*one));
        prover.finish().unwrap()
    }

    /// The root of the eight test inputs that Certificate Transparency's implementations share.
    #[test]
    fn the_roots_are_those_that_others_compute() {
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let hashes: Vec<_> = inputs.iter().map(|one| leaf(one)).collect();
        let hex = |hash: Hash| crate::passport::hex::encode(&hash);
        assert_eq!(hex(tree(&[]).root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(tree(&hashes[..1]).root()), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(hex(tree(&hashes).root()), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn every_size_has_the_root_of_the_definition() {
        let all = leaves(70);
        for size in 0..=all.len() {
            let tree = tree(&all[..size]);
            assert_eq!(tree.root(), mth(&all[..size]), "{size}");
            assert_eq!(Frontier::restored(tree.size(), tree.nodes().to_vec()), Some(tree));
        }
        assert_eq!(Frontier::restored(3, vec![[0; 32]]), None);
    }

    #[test]
    fn every_leaf_is_proven_from_every_base_and_nothing_else_is() {
        let all = leaves(37);
        for size in 1..=37_usize {
            let root = mth(&all[..size]);
            for index in 0..size {
                let (at, of) = (index as u64, size as u64);
                let whole = proof(Prover::inclusion(at, of, &Frontier::empty()).unwrap(), &all);
                for base in 0..=index {
                    let prover = Prover::inclusion(at, of, &tree(&all[..base])).unwrap();
                    assert_eq!(proof(prover, &all[base..size]), whole, "{index} of {size} from {base}");
                }
                assert!(verify_inclusion(at, of, all[index], &whole, &root));
                assert!(!verify_inclusion(at, of, all[(index + 1) % 37], &whole, &root));
                assert!(!verify_inclusion((at + 1) % of, of, all[index], &whole, &root) || of == 1);
                let more = [&whole[..], &[[0; 32]]].concat();
                assert!(!verify_inclusion(at, of, all[index], &more, &root));
            }
            assert!(Prover::inclusion(size as u64, size as u64, &Frontier::empty()).is_none());
        }
    }

    #[test]
    fn every_tree_is_proven_to_continue_its_beginnings_and_no_other() {
        let (all, mut others) = (leaves(37), leaves(37));
        others[0] = leaf(b"rewritten");
        for new in 1..=37_usize {
            for old in 1..=new {
                let (was, is) = ((old as u64, mth(&all[..old])), (new as u64, mth(&all[..new])));
                let whole = proof(Prover::consistency(was.0, is.0, &Frontier::empty()).unwrap(), &all[..new]);
                for base in 0..=old {
                    let prover = Prover::consistency(was.0, is.0, &tree(&all[..base])).unwrap();
                    assert_eq!(proof(prover, &all[base..new]), whole, "{old} to {new} from {base}");
                }
                assert!(verify_consistency((was.0, &was.1), (is.0, &is.1), &whole), "{old} to {new}");
                let rewritten = mth(&others[..new]);
                assert!(!verify_consistency((was.0, &was.1), (is.0, &rewritten), &whole), "{old} to {new}");
                let forged = proof(Prover::consistency(was.0, is.0, &Frontier::empty()).unwrap(), &others[..new]);
                assert!(!verify_consistency((was.0, &was.1), (is.0, &rewritten), &forged), "{old} to {new}");
            }
            assert!(Prover::consistency(new as u64 + 1, new as u64, &Frontier::empty()).is_none());
        }
        assert!(verify_consistency((0, &Frontier::empty().root()), (5, &[1; 32]), &[]));
    }

    #[test]
    fn a_proof_wants_every_leaf() {
        let all = leaves(9);
        let mut prover = Prover::inclusion(3, 9, &Frontier::empty()).unwrap();
        all[..8].iter().for_each(|one| prover.push(*one));
        assert_eq!(prover.finish(), None);
    }
}

//! What travels on the bus. A message is at most [`MAX_BYTES`] long; whatever is not exactly one of these is none.
//!
//! | bytes | content |
//! |---|---|
//! | 2, 1, 1 | magic, version, kind |
//! | 8, 8 | publisher, number |
//! | | and, of a message of changes, one of each of these per target: |
//! | 1, 2 + n | kind of the target, its name |
//! | 4, each 2 + n | how many ids, [`ALL`] for every row; the ids as keys write them |

use std::collections::BTreeMap;

/// A message that is longer is not read.
pub(super) const MAX_BYTES: usize = 256 << 10;

/// What concerns rows, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target<S> {
    /// The rows of every store.
    Everything,
    /// Those of the store under this prefix.
    Prefix(S),
    /// Those of every store on this table.
    Table(S),
}

/// A message as it is received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A process sends it to itself: when it comes back, so has everything that was sent before it.
    Beat { publisher: u64, number: u64 },
    /// These rows changed. The numbers of a publisher's messages have no gap.
    Changed { publisher: u64, number: u64, rows: Vec<(Target<&'a str>, Rows<'a>)> },
    /// The number of the last message of changes of this publisher.
    Last { publisher: u64, number: u64 },
}

/// Encoded ids; `None` stands for all rows.
pub(super) type Rows<'a> = Option<Vec<&'a str>>;

/// Changes that wait to be sent. Bounded: too many ids become all rows of their target, too many targets everything.
#[derive(Debug, Default)]
pub(super) struct Changes {
    targets: BTreeMap<Target<String>, Option<Vec<String>>>,
    /// How long the message would be.
    bytes: usize,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Adds rows; `None` stands for all.
    pub(super) fn add(&mut self, target: Target<String>, ids: Option<Vec<String>>) {
        if self.targets.contains_key(&Target::Everything) {
            return;
        }
        if target == Target::Everything {
            self.targets.clear();
        }
        self.bytes += match &ids {
            Some(ids) => ids.iter().map(|id| 2 + id.len()).sum(),
            None => 0,
        };
        match self.targets.entry(target) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                self.bytes += 7 + entry.key().name().len();
                entry.insert(ids);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => match (entry.get_mut(), ids) {
                (Some(known), Some(ids)) => known.extend(ids),
                (known, _) => *known = None,
            },
        }
        if self.bytes > MAX_BYTES - HEAD_BYTES {
            self.shorten();
        }
    }

    /// Adds what another set holds.
    pub(super) fn merge(&mut self, other: Self) {
        other.targets.into_iter().for_each(|(target, ids)| self.add(target, ids));
    }

    fn shorten(&mut self) {
        self.targets.values_mut().for_each(|ids| *ids = None);
        self.bytes = self.targets.keys().map(|target| 7 + target.name().len()).sum();
        if self.bytes > MAX_BYTES / 2 {
            self.targets = BTreeMap::from([(Target::Everything, None)]);
            self.bytes = 7;
        }
    }

    /// The message with this number.
    pub(super) fn message(&self, publisher: u64, number: u64) -> Vec<u8> {
        let mut out = head(KIND_CHANGED, publisher, number);
        for (target, ids) in &self.targets {
            out.push(match target {
                Target::Everything => EVERYTHING,
                Target::Prefix(_) => PREFIX,
                Target::Table(_) => TABLE,
            });
            put(&mut out, target.name());
            match ids {
                None => out.extend_from_slice(&ALL.to_le_bytes()),
                Some(ids) => {
                    // Fits: each id takes two bytes of a message whose length is bounded.
                    out.extend_from_slice(&(ids.len() as u32).to_le_bytes());
                    ids.iter().for_each(|id| put(&mut out, id));
                }
            }
        }
        out
    }
}

impl Target<String> {
    fn name(&self) -> &str {
        match self {
            Self::Everything => "",
            Self::Prefix(name) | Self::Table(name) => name,
        }
    }
}

/// A heartbeat.
pub(super) fn beat(publisher: u64, number: u64) -> Vec<u8> {
    head(KIND_BEAT, publisher, number)
}

/// Says which message was the last.
pub(super) fn last(publisher: u64, number: u64) -> Vec<u8> {
    head(KIND_LAST, publisher, number)
}

/// Reads a message; `None` when it is not one, or of another version.
pub(super) fn parse(bytes: &[u8]) -> Option<Message<'_>> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    if head[..2] != MAGIC || head[2] != VERSION {
        return None;
    }
    let number = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let (kind, publisher, number) = (head[3], number(4)?, number(12)?);
    match kind {
        KIND_BEAT if rest.is_empty() => Some(Message::Beat { publisher, number }),
        KIND_LAST if rest.is_empty() => Some(Message::Last { publisher, number }),
        KIND_CHANGED => {
            let mut input = Input(rest);
            let mut rows = Vec::new();
            while !input.0.is_empty() {
                rows.push(input.target()?);
            }
            Some(Message::Changed { publisher, number, rows })
        }
        _ => None,
    }
}

/// What is left to read. Allocates nothing on the word of a length: each id was read before it is kept.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn target(&mut self) -> Option<(Target<&'a str>, Rows<'a>)> {
        let kind = self.take(1)?[0];
        let name = self.text()?;
        let target = match kind {
            EVERYTHING => Target::Everything,
            PREFIX => Target::Prefix(name),
            TABLE => Target::Table(name),
            _ => return None,
        };
        let count = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        if count == ALL {
            return Some((target, None));
        }
        let ids: Option<Vec<_>> = (0..count).map(|_| self.text()).collect();
        Some((target, Some(ids?)))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

fn head(kind: u8, publisher: u64, number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&publisher.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out
}

/// Names of tables and ids are far shorter than what two bytes count; a longer one would be cut, and be no name at all.
fn put(out: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}

const MAGIC: [u8; 2] = *b"SB";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 2 + 1 + 1 + 8 + 8;
const KIND_BEAT: u8 = b'B';
const KIND_CHANGED: u8 = b'C';
const KIND_LAST: u8 = b'L';
const EVERYTHING: u8 = 0;
const PREFIX: u8 = 1;
const TABLE: u8 = 2;
/// In place of a number of ids.
const ALL: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changes(rows: &[(Target<&str>, Option<&[&str]>)]) -> Changes {
        let mut changes = Changes::default();
        for (target, ids) in rows {
            changes.add(owned(*target), ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()));
        }
        changes
    }

    fn ids() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("\\PC{0,4}", 0..6)
    }

    fn owned(target: Target<&str>) -> Target<String> {
        match target {
            Target::Everything => Target::Everything,
            Target::Prefix(name) => Target::Prefix(name.to_owned()),
            Target::Table(name) => Target::Table(name.to_owned()),
        }
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let sent = changes(&[
            (Target::Table("b"), Some(&["1", "a%3a"])),
            (Target::Prefix("a"), None),
            (Target::Table("b"), Some(&["", "1"])),
            (Target::Table("c"), Some(&["x"])),
            (Target::Table("c"), None),
            (Target::Table("c"), Some(&["y"])),
        ]);
        let bytes = sent.message(7, 9);
        assert_eq!(bytes.len(), sent.bytes - 3 - 3 + HEAD_BYTES, "the ids of c are not sent");
        let rows = vec![
            (Target::Prefix("a"), None),
            (Target::Table("b"), Some(vec!["1", "a%3a", "", "1"])),
            (Target::Table("c"), None),
        ];
        assert_eq!(parse(&bytes), Some(Message::Changed { publisher: 7, number: 9, rows }));
        assert_eq!(parse(&beat(1, 2)), Some(Message::Beat { publisher: 1, number: 2 }));
        assert_eq!(parse(&last(u64::MAX, 0)), Some(Message::Last { publisher: u64::MAX, number: 0 }));
    }

    #[test]
    fn too_much_becomes_all_of_it() {
        let mut many = Changes::default();
        many.add(Target::Table("few".to_owned()), Some(vec!["1".to_owned()]));
        for n in 0..100_000 {
            many.add(Target::Table("many".to_owned()), Some(vec![format!("id-{n}")]));
            assert!(many.bytes <= MAX_BYTES);
        }
        let bytes = many.message(1, 1);
        let Some(Message::Changed { rows, .. }) = parse(&bytes) else { panic!("no message") };
        assert_eq!(rows, [(Target::Table("few"), None), (Target::Table("many"), None)]);

        for n in 0..100_000 {
            many.add(Target::Prefix(format!("store-{n}")), Some(vec!["1".to_owned()]));
            assert!(many.bytes <= MAX_BYTES);
        }
        let bytes = many.message(1, 1);
        let Some(Message::Changed { rows, .. }) = parse(&bytes) else { panic!("no message") };
        assert_eq!(rows, [(Target::Everything, None)]);
    }

    #[test]
    fn what_just_fits_is_sent_whole() {
        let mut full = Changes::default();
        let room = MAX_BYTES - HEAD_BYTES - 7 - 1;
        full.add(Target::Table("t".to_owned()), Some(vec!["12345678".to_owned(); room / 10]));
        let bytes = full.message(1, 1);
        assert!(bytes.len() <= MAX_BYTES && bytes.len() > MAX_BYTES - 10);
        let Some(Message::Changed { rows, .. }) = parse(&bytes) else { panic!("no message") };
        assert_eq!(rows[0].1.as_ref().map(Vec::len), Some(room / 10));
    }

    #[test]
    fn another_version_and_what_is_left_over_are_no_message() {
        let bytes = changes(&[(Target::Table("t"), Some(&["1"]))]).message(1, 1);
        let mut other = bytes.clone();
        other[2] += 1;
        assert_eq!(parse(&other), None);
        assert_eq!(parse(&[&beat(1, 1)[..], b"x"].concat()), None);
        assert_eq!(parse(&[&bytes[..], &[TABLE]].concat()), None);
        assert_eq!(parse(&vec![0; MAX_BYTES + 1]), None);
        assert_eq!(parse(b""), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_bytes_behind_a_head_are_a_panic(kind: u8, rest: Vec<u8>) {
            let _ = parse(&[&head(kind, 1, 2)[..], &rest].concat());
            let _ = parse(&[&head(KIND_CHANGED, 1, 2)[..], &rest].concat());
        }

        #[test]
        fn a_cut_or_flipped_message_is_no_panic(at: usize, bit in 0..8u32, ids in ids()) {
            let mut changes = Changes::default();
            changes.add(Target::Table("t".to_owned()), Some(ids));
            let mut bytes = changes.message(1, 1);
            let at = at % bytes.len();
            let _ = parse(&bytes[..at]);
            bytes[at] ^= 1u8 << bit;
            let _ = parse(&bytes);
        }

        #[test]
        fn any_changes_are_read_back(
            sets in proptest::collection::vec((any::<bool>(), "\\PC{0,4}", proptest::option::of(ids())), 0..6),
        ) {
            let mut changes = Changes::default();
            for (table, name, ids) in sets {
                changes.add(if table { Target::Table(name) } else { Target::Prefix(name) }, ids);
            }
            let bytes = changes.message(3, 4);
            let Some(Message::Changed { rows, .. }) = parse(&bytes) else { panic!("no message") };
            let expected: Vec<_> = changes.targets.iter().collect();
            prop_assert_eq!(rows.len(), expected.len());
            for ((target, ids), (target_sent, ids_sent)) in rows.into_iter().zip(expected) {
                prop_assert_eq!(owned(target), target_sent.clone());
                prop_assert_eq!(ids.map(|ids| ids.into_iter().map(str::to_owned).collect::<Vec<_>>()), ids_sent.clone());
            }
        }
    }
}

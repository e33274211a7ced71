//! What stands under a key while its row is written, and what the scripts of the tier make of it.

use storehaus_cache::codec::header::{INTENT_BYTES, INTENTS_BYTES, Token};
use storehaus_cache::l2::Bytes;

/// The intents under a key, as one writer sees them.
#[derive(Debug, Default)]
pub(super) struct Intents {
    /// Whether a writer met another since the first one came.
    pub(super) shared: bool,
    changes: u32,
    /// Those of other writers whose time has not passed, with the end of it.
    pub(super) others: Vec<([u8; 16], u64)>,
    /// Whether the writer's own stands.
    pub(super) own: bool,
}

impl Intents {
    /// Reads a key's content; nothing when it is something else.
    pub(super) fn read(content: &[u8], token: Option<Token>, now: u64) -> Option<Self> {
        if content.len() < INTENTS_BYTES || content[..HEAD.len()] != HEAD {
            return None;
        }
        let mut intents = Self { shared: content[4] != 0, ..Self::default() };
        let mut changes = [0; 4];
        changes.copy_from_slice(&content[5..INTENTS_BYTES]);
        intents.changes = u32::from_le_bytes(changes);
        let own = token.map(Token::to_bytes);
        for entry in content[INTENTS_BYTES..].chunks_exact(INTENT_BYTES) {
            let (mut writer, mut ends) = ([0; 16], [0; 8]);
            writer.copy_from_slice(&entry[..16]);
            ends.copy_from_slice(&entry[16..]);
            let ends = u64::from_le_bytes(ends);
            if ends <= now {
                continue;
            }
            if Some(writer) == own {
                intents.own = true;
            } else {
                intents.others.push((writer, ends));
            }
        }
        Some(intents)
    }

    /// Adds a writer's.
    pub(super) fn add(&mut self, token: Token, ends: u64) {
        self.others.push((token.to_bytes(), ends));
    }

    /// When the last of them ends.
    pub(super) fn last(&self) -> u64 {
        self.others.iter().map(|(_, ends)| *ends).max().unwrap_or(0)
    }

    /// The content of the key.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = HEAD.to_vec();
        bytes.push(u8::from(self.shared));
        bytes.extend(self.changes.wrapping_add(1).to_le_bytes());
        for (writer, ends) in &self.others {
            bytes.extend(writer);
            bytes.extend(ends.to_le_bytes());
        }
        bytes
    }
}

/// The content of a key without the times of intents, which are those of the server.
pub(super) fn without_times(content: Bytes) -> Bytes {
    let mut content = Vec::from(content);
    if content.starts_with(&HEAD) && content.len() >= INTENTS_BYTES {
        content[INTENTS_BYTES..].chunks_exact_mut(INTENT_BYTES).for_each(|entry| entry[16..].fill(0));
    }
    content.into()
}

/// Magic, version and kind.
const HEAD: [u8; 4] = *b"SH\x01I";

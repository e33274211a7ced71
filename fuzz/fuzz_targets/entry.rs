//! What a reader does with the bytes under a key: the header, then the payload as several types.
//!
//! The first byte chooses how the rest is read: as a whole entry, as the payload of a well-formed entry, or as the
//! payload of an entry in which one bit is flipped. Nothing may panic; a sealed entry gives back its payload and one
//! with a flipped bit gives nothing; whatever decodes encodes again to something that decodes to the same.

#![no_main]

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use libfuzzer_sys::fuzz_target;
use rust_decimal::Decimal;
use storehaus_cache::codec::header::{self, Content, Expected, Millis, Stamp, Token};
use storehaus_cache::codec::{self, CacheField, Cacheable, DecodeError, Decoder, EncodeError, Encoder, JsonField};
use uuid::Uuid;

const NOW: Millis = Millis(1_000_000);

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 3 {
        0 => {
            if let Content::Value(value) = header::parse(bytes, &expected()) {
                value.payload.into_iter().for_each(decode_all);
            }
        }
        1 => {
            let entry = sealed(bytes);
            let Content::Value(value) = header::parse(&entry, &expected()) else { panic!("a sealed entry is a miss") };
            assert_eq!(value.payload, Some(bytes));
            decode_all(bytes);
        }
        _ => {
            let mut entry = sealed(bytes);
            let at = usize::from(*choice) * 31 % entry.len();
            entry[at] ^= 1 << (choice % 8);
            assert!(!matches!(header::parse(&entry, &expected()), Content::Value(_)), "a flipped bit was served");
        }
    }
});

fn sealed(payload: &[u8]) -> Vec<u8> {
    let stamp = Stamp {
        schema: Row::SCHEMA,
        identity: header::identity("g:s:1"),
        incarnation: 3,
        token: Token { instance: 4, serial: 5 },
        expires: Millis(NOW.0 + 60_000),
        refresh: Millis(NOW.0 + 48_000),
        filled: NOW,
        absent: false,
    };
    let mut entry = header::open(&stamp, payload.len());
    entry.extend_from_slice(payload);
    header::seal(&mut entry);
    entry
}

fn expected() -> Expected {
    Expected { schema: Row::SCHEMA, identity: header::identity("g:s:1"), incarnation: 3, now: NOW }
}

fn decode_all(bytes: &[u8]) {
    decode::<Row>(bytes);
    decode::<bool>(bytes);
    decode::<i64>(bytes);
    decode::<f64>(bytes);
    decode::<String>(bytes);
    decode::<Vec<u8>>(bytes);
    decode::<Vec<String>>(bytes);
    decode::<Vec<i64>>(bytes);
    decode::<Vec<Uuid>>(bytes);
    decode::<Uuid>(bytes);
    decode::<Decimal>(bytes);
    decode::<NaiveDate>(bytes);
    decode::<NaiveTime>(bytes);
    decode::<NaiveDateTime>(bytes);
    decode::<DateTime<Utc>>(bytes);
    decode::<serde_json::Value>(bytes);
}

fn decode<V: Cacheable>(bytes: &[u8]) {
    let Ok(value) = codec::from_bytes::<V>(bytes) else { return };
    // Not always `bytes` again: JSON has many spellings. From the first encoding on it is stable.
    let encoded = codec::to_bytes(&value).expect("what was decoded can be encoded");
    let again = codec::from_bytes::<V>(&encoded).expect("what was encoded can be decoded");
    assert_eq!(codec::to_bytes(&again).expect("it was encoded before"), encoded);
}

struct Row {
    id: i64,
    name: String,
    nick: Option<String>,
    tags: Vec<String>,
    seen: Option<DateTime<Utc>>,
    price: Decimal,
    settings: serde_json::Value,
    scores: Vec<Option<u32>>,
}

impl Cacheable for Row {
    const SCHEMA: u64 = codec::schema(
        "rows",
        &[
            ("id", <i64 as CacheField>::LAYOUT),
            ("name", <String as CacheField>::LAYOUT),
            ("nick", <Option<String> as CacheField>::LAYOUT),
            ("tags", <Vec<String> as CacheField>::LAYOUT),
            ("seen", <Option<DateTime<Utc>> as CacheField>::LAYOUT),
            ("price", <Decimal as CacheField>::LAYOUT),
            ("settings", <serde_json::Value as CacheField>::LAYOUT),
            ("scores", JsonField::layout("Vec<Option<u32>>")),
        ],
    );

    fn write(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        self.id.encode(out)?;
        self.name.encode(out)?;
        self.nick.encode(out)?;
        self.tags.encode(out)?;
        self.seen.encode(out)?;
        self.price.encode(out)?;
        self.settings.encode(out)?;
        JsonField::encode(&self.scores, out)
    }

    fn read(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: CacheField::decode(input)?,
            name: CacheField::decode(input)?,
            nick: CacheField::decode(input)?,
            tags: CacheField::decode(input)?,
            seen: CacheField::decode(input)?,
            price: CacheField::decode(input)?,
            settings: CacheField::decode(input)?,
            scores: JsonField::decode(input)?,
        })
    }
}

//! A column that holds any serde type as JSON.

use std::ops::{Deref, DerefMut};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CacheField, Cacheable, DecodeError, Decoder, EncodeError, Encoder, JsonField, layout};

/// Any serde type, held as JSON: in a JSON column of the database and as JSON text in a cache entry.
///
/// Entries do not name the inner type's layout: an entry whose JSON no longer fits the type is a miss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json<T>(pub T);

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Serialize + DeserializeOwned> CacheField for Json<T> {
    const LAYOUT: u64 = layout("json-typed");

    fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        JsonField::encode(&self.0, out)
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        JsonField::decode(input).map(Self)
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Cacheable for Json<T> {
    const SCHEMA: u64 = <Self as CacheField>::LAYOUT;

    fn write(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        CacheField::encode(self, out)
    }

    fn read(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        CacheField::decode(input)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{from_bytes, to_bytes};
    use super::*;

    #[test]
    fn any_serde_type_round_trips() {
        let value = Json(BTreeMap::from([("a".to_owned(), vec![Some(1i64), None]), (String::new(), vec![])]));
        assert_eq!(from_bytes::<Json<BTreeMap<String, Vec<Option<i64>>>>>(&to_bytes(&value).unwrap()).unwrap(), value);
    }

    #[test]
    fn another_shape_is_refused_without_naming_the_contents() {
        let bytes = to_bytes(&Json("a secret".to_owned())).unwrap();
        let error = from_bytes::<Json<i64>>(&bytes).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

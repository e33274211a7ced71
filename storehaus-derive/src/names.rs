//! Names: what the database and the cache accept, and how variants become labels.

/// The longest identifier of Postgres, in bytes.
const MAX_IDENTIFIER_BYTES: usize = 63;

/// The longest prefix of a cache key, in bytes; the same as in the cache.
const MAX_PREFIX_BYTES: usize = 64;

/// Why `name` cannot be an identifier of the database.
pub(crate) fn identifier_error(name: &str) -> Option<String> {
    let mut chars = name.chars();
    if !chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    {
        return Some("must be a letter or '_' followed by letters A-Z, a-z, digits and '_'".to_owned());
    }
    (name.len() > MAX_IDENTIFIER_BYTES)
        .then(|| format!("is {} bytes long; at most {MAX_IDENTIFIER_BYTES} are allowed", name.len()))
}

/// Why `prefix` cannot be part of a cache key.
pub(crate) fn prefix_error(prefix: &str) -> Option<String> {
    if prefix.is_empty() {
        return Some("is empty; give it at least one character or leave it out".to_owned());
    }
    if prefix.len() > MAX_PREFIX_BYTES {
        return Some(format!("is {} bytes long; at most {MAX_PREFIX_BYTES} are allowed", prefix.len()));
    }
    let bad = prefix.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-'))?;
    Some(format!("has the character {bad:?}; only A-Z, a-z, 0-9, '_', '.' and '-' are allowed"))
}

/// Why `label` cannot be stored for a variant.
pub(crate) fn label_error(label: &str) -> Option<String> {
    if label.is_empty() {
        return Some("is empty; give it at least one character".to_owned());
    }
    if label.contains('\0') {
        return Some("has a NUL character, which Postgres cannot store".to_owned());
    }
    (label.len() > MAX_IDENTIFIER_BYTES)
        .then(|| format!("is {} bytes long; at most {MAX_IDENTIFIER_BYTES} are allowed", label.len()))
}

/// How the variants of an enum become labels.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    Snake,
    Camel,
    Pascal,
    ScreamingSnake,
    Kebab,
    Lower,
    Upper,
}

impl Case {
    const ALL: [(&str, Self); 7] = [
        ("snake_case", Self::Snake),
        ("camelCase", Self::Camel),
        ("PascalCase", Self::Pascal),
        ("SCREAMING_SNAKE_CASE", Self::ScreamingSnake),
        ("kebab-case", Self::Kebab),
        ("lowercase", Self::Lower),
        ("UPPERCASE", Self::Upper),
    ];

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(known, case)| (known == name).then_some(case))
    }

    pub(crate) fn known() -> String {
        Self::ALL.map(|(name, _)| format!("\"{name}\"")).join(", ")
    }

    pub(crate) fn apply(self, variant: &str) -> String {
        let words = words(variant);
        match self {
            Self::Snake => words.join("_"),
            Self::Camel => {
                let mut words = words.into_iter();
                words.next().into_iter().chain(words.map(|word| capitalized(&word))).collect()
            }
            Self::Pascal => words.iter().map(|word| capitalized(word)).collect(),
            Self::ScreamingSnake => words.join("_").to_uppercase(),
            Self::Kebab => words.join("-"),
            Self::Lower => variant.to_lowercase(),
            Self::Upper => variant.to_uppercase(),
        }
    }
}

/// The words of a name, in lower case.
fn words(name: &str) -> Vec<String> {
    let chars: Vec<char> = name.chars().collect();
    let mut words = Vec::new();
    let mut word = String::new();
    for (i, &c) in chars.iter().enumerate() {
        let after_lower = i > 0 && (chars[i - 1].is_lowercase() || chars[i - 1].is_numeric());
        let before_lower = chars.get(i + 1).is_some_and(|next| next.is_lowercase());
        let starts = c == '_' || (c.is_uppercase() && (after_lower || before_lower));
        if starts && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c != '_' {
            word.extend(c.to_lowercase());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_become_labels() {
        let labels = |name: &str| Case::ALL.map(|(_, case)| case.apply(name));
        assert_eq!(
            labels("VeryHappy"),
            ["very_happy", "veryHappy", "VeryHappy", "VERY_HAPPY", "very-happy", "veryhappy", "VERYHAPPY"]
        );
        assert_eq!(Case::Snake.apply("HTTPError"), "http_error");
        assert_eq!(Case::Pascal.apply("HTTPError"), "HttpError");
        assert_eq!(Case::Snake.apply("Utf8Text"), "utf8_text");
        assert_eq!(Case::Kebab.apply("A"), "a");
        assert_eq!(Case::Snake.apply("Already_Split"), "already_split");
    }

    #[test]
    fn identifiers_are_checked() {
        for good in ["a", "_a1", "User", "select", &"x".repeat(63)] {
            assert_eq!(identifier_error(good), None, "{good}");
        }
        for bad in ["", "1a", "a b", "a\"b", "größe", "a.b", "a;--", &"x".repeat(64)] {
            assert!(identifier_error(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn prefixes_are_checked() {
        for good in ["a", "premium_users", "a.b-c", &"x".repeat(64)] {
            assert_eq!(prefix_error(good), None, "{good}");
        }
        for bad in ["", "a:b", "a*", "é", "~", &"x".repeat(65)] {
            assert!(prefix_error(bad).is_some(), "{bad}");
        }
    }
}

//! Words to avoid, with their replacements.

/// Words to avoid, each in lower case, with the replacement.
pub(super) struct Vocabulary<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Vocabulary<'a> {
    /// Parses lines of the form `word, other word = replacement`; lines that start with `#` are
    /// comments.
    pub(super) fn parse(text: &'a str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let entries = lines.filter_map(|line| line.split_once('=')).flat_map(|(words, other)| {
            words.split(',').map(move |word| (word.trim(), other.trim()))
        });
        Self(entries.collect())
    }

    /// Returns the words that occur in a text, with their replacements.
    pub(super) fn find(&self, text: &str) -> Vec<(&'a str, &'a str)> {
        let text = text.to_lowercase().replace('’', "'");
        self.0.iter().filter(|(word, _)| contains_word(&text, word)).copied().collect()
    }
}

fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(is_word_character) && !after.is_some_and(is_word_character)
    })
}

/// Includes the characters of identifiers, flags and paths, whose names are not prose.
fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "# a comment = x\nfrob, frob off = use\nnix = not";

    #[test]
    fn whole_words_and_phrases_are_found_in_any_case() {
        let vocabulary = Vocabulary::parse(WORDS);
        assert_eq!(vocabulary.find("Frob, and Nix."), [("frob", "use"), ("nix", "not")]);
        assert_eq!(vocabulary.find("do frob off"), [("frob", "use"), ("frob off", "use")]);
    }

    #[test]
    fn parts_of_words_and_of_names_are_ignored() {
        let vocabulary = Vocabulary::parse(WORDS);
        assert_eq!(vocabulary.find("unix, nixes, nix_time, --nix, src/nix"), []);
    }

    #[test]
    fn comments_are_not_entries() {
        assert_eq!(Vocabulary::parse(WORDS).find("a comment"), []);
    }
}

//! Words that stand for learned vectors, found in a text before it is cut into tokens.
//!
//! The longest word counts, in any case of letters, and not inside of another word: `map` is in `a
//! map, old` and not in `maple`.

use std::ops::Range;

/// All such words.
#[derive(Debug, Clone, Default)]
pub(super) struct Learned {
    /// The longest first.
    words: Vec<(String, Range<u32>)>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// Other words.
    Text(&'a str),
    /// The numbers of the vectors.
    Learned(Range<u32>),
}

impl Learned {
    pub(super) fn add(&mut self, word: &str, ids: Range<u32>) {
        if !word.is_empty() {
            self.words.push((word.to_owned(), ids));
            self.words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        }
    }

    /// The word that this vector belongs to.
    pub(super) fn word(&self, id: u32) -> Option<String> {
        self.words.iter().find(|(_, ids)| ids.contains(&id)).map(|(word, _)| word.clone())
    }

    /// How many vectors begin with this one.
    pub(super) fn count(&self, id: u32) -> usize {
        let found = self.words.iter().find(|(_, ids)| ids.start == id);
        found.map_or(1, |(_, ids)| ids.len())
    }

    /// The parts of a text, and where each begins; a text without such words is one part.
    pub(super) fn segments<'a>(&self, text: &'a str) -> Vec<(usize, Segment<'a>)> {
        let mut segments = Vec::new();
        let (mut start, mut at) = (0, 0);
        while !self.words.is_empty()
            && let Some(c) = text[at..].chars().next()
        {
            match self.words.iter().find(|(word, _)| stands_at(text, at, word)) {
                Some((word, ids)) => {
                    if start < at {
                        segments.push((start, Segment::Text(&text[start..at])));
                    }
                    segments.push((at, Segment::Learned(ids.clone())));
                    at += word.len();
                    start = at;
                }
                None => at += c.len_utf8(),
            }
        }
        if start < text.len() || segments.is_empty() {
            segments.push((start, Segment::Text(&text[start..])));
        }
        segments
    }
}

/// Whether `word` is at this place of the text, and is a word there.
fn stands_at(text: &str, at: usize, word: &str) -> bool {
    let Some(found) = text.get(at..at + word.len()) else { return false };
    let joined = |a: Option<char>, b: Option<char>| {
        a.is_some_and(char::is_alphanumeric) && b.is_some_and(char::is_alphanumeric)
    };
    found.eq_ignore_ascii_case(word)
        && !joined(text[..at].chars().next_back(), word.chars().next())
        && !joined(word.chars().next_back(), text[at + word.len()..].chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_as_words() {
        let mut learned = Learned::default();
        learned.add("map", 10..11);
        learned.add("old-map", 11..13);
        learned.add("<toy>", 13..14);
        let found = |text: &str| -> Vec<String> {
            let name = |segment| match segment {
                Segment::Text(text) => text.to_owned(),
                Segment::Learned(ids) => format!("{ids:?}"),
            };
            learned.segments(text).into_iter().map(|(_, segment)| name(segment)).collect()
        };
        assert_eq!(found("an Old-Map, map"), ["an ", "11..13", ", ", "10..11"]);
        assert_eq!(found("maple, remap, 2map"), ["maple, remap, 2map"]);
        assert_eq!(found("a<toy>b <TOY>."), ["a", "13..14", "b ", "13..14", "."]);
        assert_eq!(found("地map図 map"), ["地map図 ", "10..11"]);
        assert_eq!(found(""), [""]);
        assert_eq!((learned.count(11), learned.count(12), learned.count(10)), (2, 1, 1));
        assert_eq!(Learned::default().segments("map"), [(0, Segment::Text("map"))]);
    }
}

//! `a (red:1.2) fox` → pieces of text and how strongly each counts.
//!
//! | written | weight of x |
//! |---|---|
//! | `(x)` | × 1.1 |
//! | `[x]` | ÷ 1.1 |
//! | `(x:1.5)` | × 1.5 |
//! | `\(` `\)` `\[` `\]` `\\` | the character itself |
//! | `a BREAK b` | b begins a new chunk |
//!
//! Brackets nest, and their weights multiply. A bracket that is never closed ends with the text;
//! one that closes nothing is text, as is a colon without a number and a closing parenthesis behind
//! it. One difference from A1111: a `BREAK` inside of brackets breaks here, there it becomes a word
//! with a negative weight.

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Words and their weight.
    Text(String, f64),
    /// The rest begins a new chunk.
    Break,
}

/// What a pair of brackets without a number multiplies or divides by.
const STEP: f64 = 1.1;

/// Brackets within more brackets than this change no weight, so that the time is linear in the
/// text.
const DEEPEST: usize = 64;

/// The longest weight: `:1.5)` with its digits and spaces.
const LONGEST_WEIGHT: usize = 64;

/// Reads a prompt. Every text has a meaning; the empty one is a single empty piece.
///
/// ```
/// # use aquatint_model::text::prompt::emphasis::{Piece, parse};
/// let text = |text: &str, weight| Piece::Text(text.into(), weight);
/// let expected = [text("an ", 1.0), text("important", 1.1), text(" word", 1.0)];
/// assert_eq!(parse("an (important) word"), expected);
/// ```
pub fn parse(prompt: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    // Where the pieces inside of each open bracket begin.
    let (mut round, mut square) = (Vec::new(), Vec::new());
    let mut rest = prompt;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '\\' => {
                let escaped = rest[length..].chars().next().filter(|c| r"()[]\".contains(*c));
                length += escaped.map_or(0, char::len_utf8);
                // A backslash before another character is dropped.
                pieces.push(Piece::Text(escaped.map(String::from).unwrap_or_default(), 1.0));
            }
            '(' => round.push(pieces.len()),
            '[' => square.push(pieces.len()),
            ')' if !round.is_empty() => close(&mut pieces, &mut round, STEP),
            ']' if !square.is_empty() => close(&mut pieces, &mut square, 1.0 / STEP),
            ':' if !round.is_empty() => match explicit_weight(rest) {
                Some((weight, end)) => {
                    length = end;
                    close(&mut pieces, &mut round, weight);
                }
                None => pieces.push(Piece::Text(":".into(), 1.0)),
            },
            ')' | ']' | ':' => pieces.push(Piece::Text(c.into(), 1.0)),
            _ => {
                length = rest.find(['\\', '(', ')', '[', ']', ':']).unwrap_or(rest.len());
                push_words(&mut pieces, &rest[..length]);
            }
        }
        rest = &rest[length..];
    }
    for (mut open, by) in [(round, STEP), (square, 1.0 / STEP)] {
        while !open.is_empty() {
            close(&mut pieces, &mut open, by);
        }
    }
    merged(pieces)
}

/// Closes the innermost of the `open` brackets: multiplies the weights from its first piece on.
fn close(pieces: &mut [Piece], open: &mut Vec<usize>, by: f64) {
    let start = open.pop().filter(|_| open.len() < DEEPEST);
    let start = start.unwrap_or(pieces.len());
    for piece in &mut pieces[start..] {
        if let Piece::Text(_, weight) = piece {
            *weight *= by;
        }
    }
}

/// `:1.5)` at the beginning of `text` → 1.5 and the length of all this.
fn explicit_weight(text: &str) -> Option<(f64, usize)> {
    let end = text.bytes().take(LONGEST_WEIGHT).position(|byte| byte == b')')?;
    let number = text[1..end].trim();
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let is_number = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    Some((number.parse().ok().filter(|_| is_number)?, end + 1))
}

/// Adds text without brackets, in which the word `BREAK` may stand.
fn push_words(pieces: &mut Vec<Piece>, text: &str) {
    let mut start = 0; // of what is not yet in a piece
    for (at, word) in text.match_indices("BREAK") {
        let inside_a_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let after = at + word.len();
        if inside_a_word(text[..at].chars().next_back()) || inside_a_word(text[after..].chars().next()) {
            continue;
        }
        pieces.push(Piece::Text(text[start..at].trim_end().into(), 1.0));
        pieces.push(Piece::Break);
        start = after + (text[after..].len() - text[after..].trim_start().len());
    }
    pieces.push(Piece::Text(text[start..].into(), 1.0));
}

/// Neighbours of one weight become one piece.
fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut merged: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (merged.last_mut(), piece) {
            (Some(Piece::Text(before, weight)), Piece::Text(text, same)) if *weight == same => {
                before.push_str(&text);
            }
            (_, piece) => merged.push(piece),
        }
    }
    if merged.is_empty() {
        merged.push(Piece::Text(String::new(), 1.0));
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares pieces; a weight of 0 means a break.
    #[track_caller]
    fn check(prompt: &str, expected: &[(&str, f64)]) {
        let found = parse(prompt);
        assert_eq!(found.len(), expected.len(), "{prompt}: {found:?}");
        for (found, &(text, weight)) in found.iter().zip(expected) {
            match found {
                Piece::Text(found, found_weight) => {
                    assert_eq!(found, text, "{prompt}");
                    assert!((found_weight - weight).abs() < 1e-12, "{prompt}: {found_weight}, not {weight}");
                }
                Piece::Break => assert_eq!(weight, 0.0, "{prompt}: a break"),
            }
        }
    }

    /// The examples with which A1111 documents its parser.
    #[test]
    fn a1111s_examples() {
        check("normal text", &[("normal text", 1.0)]);
        check("an (important) word", &[("an ", 1.0), ("important", 1.1), (" word", 1.0)]);
        check("(unbalanced", &[("unbalanced", 1.1)]);
        check(r"\(literal\]", &[("(literal]", 1.0)]);
        check("(unnecessary)(parens)", &[("unnecessaryparens", 1.1)]);
        #[rustfmt::skip]
        check("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", &[
            ("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
            ("sky", 1.4641), (".", 1.1),
        ]);
    }

    #[test]
    fn what_looks_like_syntax_and_is_none_is_text() {
        check("", &[("", 1.0)]);
        check("a) b] c: d", &[("a) b] c: d", 1.0)]);
        check("ratio 16:9", &[("ratio 16:9", 1.0)]);
        check("(a:b)", &[("a:b", 1.1)]);
        check("(a:1.2 b)", &[("a:1.2 b", 1.1)]);
        check("(a:nan)(b:inf)", &[("a:nanb:inf", 1.1)]);
        check("(a: -0.5 )", &[("a", -0.5)]);
        check("(a:+.5)", &[("a", 0.5)]);
        check(r"C:\\x \y \", &[(r"C:\x y ", 1.0)]);
        check("[[x", &[("x", 1.0 / 1.21)]);
        check("(東:1.5)京", &[("東", 1.5), ("京", 1.0)]);
    }

    #[test]
    fn break_is_a_word_of_its_own() {
        check("a  BREAK\n b", &[("a", 1.0), ("", 0.0), ("b", 1.0)]);
        check("BREAK", &[("", 1.0), ("", 0.0), ("", 1.0)]);
        check("a BREAKFAST, DAYBREAK, break", &[("a BREAKFAST, DAYBREAK, break", 1.0)]);
        check("(a BREAK b:2)", &[("a", 2.0), ("", 0.0), ("b", 2.0)]);
    }

    /// A megabyte of brackets, colons, backslashes: seconds at most, where squares would take
    /// hours.
    #[test]
    fn a_long_text_takes_linear_time() {
        for unit in ["(a", "[a", "(:", "a:1", "(a:1.5", r"\(", "BREAK ", "(", "a)", "([", ")]", "(a)["] {
            let text = unit.repeat(1_000_000 / unit.len());
            let pieces = parse(&text);
            assert!(!pieces.is_empty(), "{unit}");
        }
        let [Piece::Text(text, weight)] = &parse(&"(".repeat(100_000))[..] else { panic!("one piece") };
        assert_eq!((text.as_str(), *weight), ("", 1.0));
        let deep = parse(&"(".repeat(65).replace("(", "(a"));
        let Some(Piece::Text(_, weight)) = deep.last() else { panic!("a text") };
        assert!((weight - STEP.powi(64)).abs() < 1e-9, "64 brackets count: {weight}");
    }
}

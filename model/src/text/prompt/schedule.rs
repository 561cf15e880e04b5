//! `a [red:blue:0.5] fox`: prompts that change during the run.
//!
//! | written | read as |
//! |---|---|
//! | `[from:to:when]` | `from` up to the call `when` of the UNet, then `to` |
//! | `[to:when]` | nothing, then `to` |
//! | `[from::when]` | `from`, then nothing |
//! | `[a\|b\|c]` | `a`, `b`, `c`, `a`, …: another one at each call |
//!
//! `when` with a point in it is a share of the calls, without one their number. They nest, and
//! stand beside brackets that only weigh (`emphasis.rs`, which reads the texts that come out here).
//! A bracket that is none of these is text; a `|` outside of them makes the whole prompt plain
//! text, and so does a backslash before the end or a line break.
//!
//! Where stray brackets or colons make the grammar ambiguous, A1111's parser now and then takes a
//! change for text, as in `[a:b:2]:)`; here it is a change. Of 3,000 random strings of brackets and
//! words all others were read alike.
//!
//! Source: `get_learned_conditioning_prompt_schedules` in A1111's `modules/prompt_parser.py` (1.6
//! and later), with its grammar; a prompt takes time in proportion to its length here.

use std::collections::HashSet;

/// A text, and the last call of the UNet, counted from 1, for which it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// The last of the schedule has the number of all calls.
    pub until: usize,
    /// What is left for `emphasis.rs` to read.
    pub text: String,
}

/// Brackets in more brackets than these are text: the reader calls itself for each.
const DEEPEST: usize = 64;

/// The texts of a prompt, in the order in which they are used, for `calls` calls of the UNet.
///
/// ```
/// # use aquatint_model::text::prompt::schedule::schedule;
/// let texts = schedule("a [red:blue:0.5] fox", 10);
/// let texts: Vec<_> = texts.iter().map(|at| (at.until, at.text.as_str())).collect();
/// assert_eq!(texts, [(5, "a red fox"), (10, "a blue fox")]);
/// ```
pub fn schedule(prompt: &str, calls: usize) -> Vec<Scheduled> {
    let Some(nodes) = Reader::new(prompt).all() else {
        return vec![Scheduled { until: calls, text: prompt.to_owned() }];
    };
    let mut ends = vec![calls];
    changes(&nodes, calls, &mut ends);
    ends.sort_unstable();
    ends.dedup();
    let text_at = |until: usize| {
        let mut text = String::new();
        write_at(&nodes, until, calls, &mut text);
        Scheduled { until, text }
    };
    ends.into_iter().map(text_at).collect()
}

/// Which of a schedule's texts a call reads, counted from 0. As in A1111, whose counter begins with
/// 0 where its schedules begin with 1, the first text has a call more than it says.
pub fn index_at(schedule: &[Scheduled], call: usize) -> usize {
    schedule.iter().position(|at| call <= at.until).unwrap_or(0)
}

/// A part of a prompt.
enum Node<'a> {
    Text(&'a str),
    /// Before, after, and when.
    Change(Vec<Node<'a>>, Vec<Node<'a>>, &'a str),
    Turns(Vec<Vec<Node<'a>>>),
}

/// The call up to which the text before a change is used. Nothing is below 0: a negative number
/// means the same.
fn call_of(when: &str, calls: usize) -> usize {
    let number: f64 = when.parse().unwrap_or(0.0);
    let call = if when.contains('.') { number * calls as f64 } else { number };
    (call as usize).min(calls)
}

/// The calls after which the text is another.
fn changes(nodes: &[Node<'_>], calls: usize, ends: &mut Vec<usize>) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Change(before, after, when) => {
                ends.extend(Some(call_of(when, calls)).filter(|&call| call > 0));
                changes(before, calls, ends);
                changes(after, calls, ends);
            }
            Node::Turns(turns) => {
                ends.extend(1..=calls);
                turns.iter().for_each(|turn| changes(turn, calls, ends));
            }
        }
        if ends.len() > 8 * calls {
            ends.sort_unstable();
            ends.dedup();
        }
    }
}

/// The text for a call, counted from 1.
fn write_at(nodes: &[Node<'_>], call: usize, calls: usize, text: &mut String) {
    for node in nodes {
        match node {
            Node::Text(plain) => text.push_str(plain),
            Node::Change(before, after, when) => {
                let nodes = if call <= call_of(when, calls) { before } else { after };
                write_at(nodes, call, calls, text);
            }
            Node::Turns(turns) => write_at(&turns[call.saturating_sub(1) % turns.len()], call, calls, text),
        }
    }
}

/// Reads a prompt by recursive descent. What is no change is text, so a failed attempt costs its
/// length; each position fails once, and is remembered.
struct Reader<'a> {
    prompt: &'a str,
    failed: HashSet<usize>,
}

/// Nodes, and where they end.
type Read<'a> = Option<(Vec<Node<'a>>, usize)>;

impl<'a> Reader<'a> {
    fn new(prompt: &'a str) -> Self {
        Self { prompt, failed: HashSet::new() }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.prompt.as_bytes().get(at).copied()
    }

    /// The whole prompt; `None` if it cannot change.
    fn all(&mut self) -> Option<Vec<Node<'a>>> {
        let (mut nodes, mut at) = (Vec::new(), 0);
        while let Some(byte) = self.byte(at) {
            let bracket = if byte == b'[' { self.square(at, 0) } else { None };
            if let Some((inner, end)) = bracket {
                nodes.extend(inner);
                at = end;
                continue;
            }
            let end = match byte {
                b'[' | b']' | b'(' | b')' | b':' => at + 1,
                _ => self.plain(at)?,
            };
            nodes.push(Node::Text(&self.prompt[at..end]));
            at = end;
        }
        Some(nodes)
    }

    /// The end of text without brackets, colons and bars that begins here; `None` if there is none.
    fn plain(&self, start: usize) -> Option<usize> {
        let mut at = start;
        loop {
            match self.byte(at) {
                None | Some(b'[' | b']' | b'(' | b')' | b':' | b'|') => break,
                Some(b'\\') => match self.prompt[at + 1..].chars().next() {
                    None | Some('\n') => break,
                    Some(escaped) => at += 1 + escaped.len_utf8(),
                },
                Some(_) => at += 1,
            }
        }
        (at > start).then_some(at)
    }

    /// What may stand inside of brackets, up to what may not.
    fn inside(&mut self, mut at: usize, depth: usize) -> (Vec<Node<'a>>, usize) {
        let mut nodes = Vec::new();
        loop {
            let read = match self.byte(at) {
                Some(b'[') => self.square(at, depth + 1),
                Some(b'(') => self.round(at, depth + 1),
                _ => self.plain(at).map(|end| (vec![Node::Text(&self.prompt[at..end])], end)),
            };
            let Some((read, end)) = read else { return (nodes, at) };
            nodes.extend(read);
            at = end;
        }
    }

    /// `[…]`, from its bracket on.
    fn square(&mut self, start: usize, depth: usize) -> Read<'a> {
        if depth >= DEEPEST || self.failed.contains(&start) {
            return None;
        }
        let read = self.square_after(start, depth);
        if read.is_none() {
            self.failed.insert(start);
        }
        read
    }

    fn square_after(&mut self, start: usize, depth: usize) -> Read<'a> {
        let (first, at) = self.inside(start + 1, depth);
        match self.byte(at)? {
            b']' => Some((self.framed(start, first, at), at + 1)),
            b'|' => {
                let (mut turns, mut at) = (vec![first], at);
                while self.byte(at) == Some(b'|') {
                    let (turn, end) = self.inside(at + 1, depth);
                    turns.push(turn);
                    at = end;
                }
                (self.byte(at)? == b']').then(|| (vec![Node::Turns(turns)], at + 1))
            }
            b':' => {
                if let Some((when, end)) = self.when(at + 1) {
                    return Some((vec![Node::Change(Vec::new(), first, when)], end));
                }
                let (second, at) = self.inside(at + 1, depth);
                let (when, end) = self.when(at + 1).filter(|_| self.byte(at) == Some(b':'))?;
                Some((vec![Node::Change(first, second, when)], end))
            }
            _ => None,
        }
    }

    /// `(…)` or `(…:…)`, which weigh.
    fn round(&mut self, start: usize, depth: usize) -> Read<'a> {
        if depth >= DEEPEST || self.failed.contains(&start) {
            return None;
        }
        let (mut nodes, mut at) = self.inside(start + 1, depth);
        if self.byte(at) == Some(b':') {
            nodes.push(Node::Text(":"));
            let (weight, end) = self.inside(at + 1, depth);
            nodes.extend(weight);
            at = end;
        }
        if self.byte(at) != Some(b')') {
            self.failed.insert(start);
            return None;
        }
        Some((self.framed(start, nodes, at), at + 1))
    }

    /// The nodes with the brackets around them, which are text.
    fn framed(&self, start: usize, inner: Vec<Node<'a>>, end: usize) -> Vec<Node<'a>> {
        let mut nodes = vec![Node::Text(&self.prompt[start..=start])];
        nodes.extend(inner);
        nodes.push(Node::Text(&self.prompt[end..=end]));
        nodes
    }

    /// `0.5]` with spaces around the number: the number, and the end behind the bracket.
    fn when(&self, start: usize) -> Option<(&'a str, usize)> {
        /// No number of steps is longer.
        const LONGEST: usize = 64;
        let rest = self.prompt.get(start..)?;
        let length = rest.bytes().take(LONGEST).position(|byte| byte == b']')?;
        let number = rest[..length].trim();
        let is_number = number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        (is_number && number.parse::<f64>().is_ok()).then_some((number, start + length + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prompt: &str, calls: usize, expected: &[(usize, &str)]) {
        let found = schedule(prompt, calls);
        let found: Vec<_> = found.iter().map(|at| (at.until, at.text.as_str())).collect();
        assert_eq!(found, expected, "{prompt}");
    }

    /// The examples with which A1111 documents its function, for ten steps.
    #[test]
    fn a1111s_examples() {
        check("test", 10, &[(10, "test")]);
        check("a [b:3]", 10, &[(3, "a "), (10, "a b")]);
        check("a [b: 3]", 10, &[(3, "a "), (10, "a b")]);
        check("a [[[b]]:2]", 10, &[(2, "a "), (10, "a [[b]]")]);
        check("[(a:2):3]", 10, &[(3, ""), (10, "(a:2)")]);
        check("a [b : c : 1] d", 10, &[(1, "a b  d"), (10, "a  c  d")]);
        check("a[b:[c:d:2]:1]e", 10, &[(1, "abe"), (2, "ace"), (10, "ade")]);
        check("a [unbalanced", 10, &[(10, "a [unbalanced")]);
        check("a [b:.5] c", 10, &[(5, "a  c"), (10, "a b c")]);
        check("((a][:b:c [d:3]", 10, &[(3, "((a][:b:c "), (10, "((a][:b:c d")]);
        let turns = |texts: &[&'static str]| -> Vec<(usize, &'static str)> {
            (1..=10).map(|call| (call, texts[(call - 1) % texts.len()])).collect()
        };
        check("[a|(b:1.1)]", 10, &turns(&["a", "(b:1.1)"]));
        check("[fe|]male", 10, &turns(&["female", "male"]));
        check("[fe|||]male", 10, &turns(&["female", "male", "male", "male"]));
    }

    /// The example above its parser, for a hundred steps.
    #[test]
    fn a1111s_landscape() {
        let prompt = "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]\
                      [ in background:0.25] [shoddy:masterful:0.5]";
        let lake = "fantasy landscape with a lake and";
        #[rustfmt::skip]
        check(prompt, 100, &[
            (25, "fantasy landscape with a mountain and an oak in foreground shoddy"),
            (50, &format!("{lake} an oak in foreground in background shoddy")),
            (60, &format!("{lake} an oak in foreground in background masterful")),
            (75, &format!("{lake} an oak in background masterful")),
            (100, &format!("{lake} a christmas tree in background masterful")),
        ]);
    }

    #[test]
    fn odd_moments_and_escapes() {
        check("[a:b:0]", 10, &[(10, "b")]);
        check("[a:b:-3]", 10, &[(10, "b")]);
        check("[a:b:1.0]", 10, &[(10, "a")]);
        check("[a:b:1e1]", 10, &[(10, "a")]);
        check("[a:b:99999999999999999999]", 10, &[(10, "a")]);
        check("[a:b:5 ]", 10, &[(5, "a"), (10, "b")]);
        check("[a:b:nan] [a:b:inf] [a:]", 10, &[(10, "[a:b:nan] [a:b:inf] [a:]")]);
        check(r"\[a:b:5\]", 10, &[(10, r"\[a:b:5\]")]);
        check("[a:b:5] | c", 10, &[(10, "[a:b:5] | c")]);
        check("[a:b:5] \\", 10, &[(10, "[a:b:5] \\")]);
        check("[東:京:5]都", 10, &[(5, "東都"), (10, "京都")]);
        check("[a|b:c]", 10, &[(10, "[a|b:c]")]);
    }

    /// The counter of A1111 begins with 0, and its schedules with 1.
    #[test]
    fn the_first_text_has_a_call_more() {
        let texts = schedule("[a:b:3]", 6);
        let of_calls: Vec<_> = (0..6).map(|call| index_at(&texts, call)).collect();
        assert_eq!(of_calls, [0, 0, 0, 0, 1, 1]);
        assert_eq!(index_at(&texts, 7), 0, "beyond the end, as in A1111");
    }

    #[test]
    fn a_long_prompt_takes_linear_time() {
        for unit in
            ["[", "(", "[a:", "[a|", "[a", "([", "[a:b:3]", "[(a:1)|", "\\", "[a:b:0.5", "a]", "[[a:2]:"]
        {
            let prompt = unit.repeat(400_000 / unit.len());
            assert!(!schedule(&prompt, 4).is_empty(), "{unit}");
        }
    }
}

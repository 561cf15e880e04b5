//! What looks like syntax in a prompt and is read as words here.
//!
//! | written | at A1111, ComfyUI and their extensions |
//! |---|---|
//! | `<lora:name:0.8>`, `<hypernet:…>` | another network is added |
//! | `[from:to:when]`, `[a\|b]` | the prompt changes during the run |
//! | `a AND b` | two prompts are weighted against each other |
//! | `embedding:name` | a learned token |
//! | `__name__`, `{a\|b}` | one of several words, drawn |
//! | `(x:1.2)` | a weight, which only [`PromptSyntax::A1111`] knows |

use std::sync::LazyLock;

use regex::Regex;

use super::PromptSyntax;

/// The first of each kind in `text`, as it is written there.
pub(crate) fn find(text: &str, syntax: PromptSyntax) -> Vec<&str> {
    static TAGS: LazyLock<[Regex; 7]> = LazyLock::new(|| {
        [
            r"<(?:lora|lyco|hypernet|ti):[^<>]+>",
            r"\[[^\[\]:|]*:(?:[^\[\]:|]*:)?\s*[0-9]*\.?[0-9]+\s*\]",
            r"\[[^\[\]|]*(?:\|[^\[\]|]*)+\]",
            r"\bAND\b",
            r"\bembedding:[\w.\-]+",
            r"__[A-Za-z0-9][\w/\-]*__|\{[^{}|]*(?:\|[^{}|]*)+\}",
            r"\([^()]+:\s*[0-9]*\.?[0-9]+\s*\)",
        ]
        .map(|tag| Regex::new(tag).expect("the expression is valid"))
    });
    let weights = usize::from(syntax == PromptSyntax::A1111);
    let tags = &TAGS[..TAGS.len() - weights];
    tags.iter().filter_map(|tag| tag.find(text)).map(|found| found.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_named_once() {
        let text = "fox <lora:add_detail:0.8> <lora:b:1> [red:blue:0.5] AND [a|b] embedding:x, __animal__";
        let expected =
            ["<lora:add_detail:0.8>", "[red:blue:0.5]", "[a|b]", "AND", "embedding:x", "__animal__"];
        assert_eq!(find(text, PromptSyntax::A1111), expected);
        assert_eq!(find("[blue:10]", PromptSyntax::A1111), ["[blue:10]"]);
        assert_eq!(find("a {red|blue} fox", PromptSyntax::A1111), ["{red|blue}"]);
        assert_eq!(find("a (red:1.2) fox", PromptSyntax::Plain), ["(red:1.2)"]);
    }

    #[test]
    fn words_and_emphasis_are_left_alone() {
        for text in
            ["a (red:1.2) [fox], BREAK, 16:9", "rock and roll", "SAND, ANDROID", "a < b", "_x_ a|b", "[a: b]"]
        {
            assert_eq!(find(text, PromptSyntax::A1111), Vec::<&str>::new(), "{text}");
        }
    }
}

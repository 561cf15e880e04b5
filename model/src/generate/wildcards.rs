//! Words of a request that are drawn from files, by the seed of the picture.

use super::pipeline::Pipeline;
use super::request::TextToImage;
use super::task::Task;
use crate::error::{Error, Result};
use crate::text::prompt::wildcards::{Wildcards, has_wildcard};

impl Pipeline {
    /// Whether the texts of a request have wildcards, and there is a folder of their files.
    /// Pictures of such a request have different texts, and cannot be made together.
    pub fn draws_words(&self, request: &TextToImage) -> bool {
        self.wildcards.is_some() && (has_wildcard(&request.prompt) || has_wildcard(&request.negative_prompt))
    }

    /// The task with words in place of its wildcards; the prompt's are drawn first. Making a
    /// picture does this by itself.
    ///
    /// # Errors
    /// `Request` if there is no file for one, or it has no lines.
    pub fn with_words(&self, task: &Task) -> Result<Task> {
        let mut task = task.clone();
        if let Some(folder) = self.wildcards.as_deref().filter(|_| self.draws_words(task.text())) {
            let request = task.text_mut();
            let mut wildcards = Wildcards::new(folder, request.seed);
            request.prompt = wildcards.fill(&request.prompt)?;
            request.negative_prompt = wildcards.fill(&request.negative_prompt)?;
        }
        Ok(task)
    }

    /// The same for pictures that are made together.
    pub(super) fn with_words_for(&self, task: &Task, count: usize) -> Result<Task> {
        if count > 1 && self.draws_words(task.text()) {
            return Err(Error::request(
                "the prompt has wildcards, so each picture has another text; expected pictures that are made one at a time",
            ));
        }
        self.with_words(task)
    }
}

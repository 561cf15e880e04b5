//! `--shard`: which lines of a manifest this machine makes.
//!
//! ```text
//! 2/4      the second of every four lines
//! auto     what the scheduler says of this task: a Slurm array, or a Kubernetes Indexed Job
//! auto/4   the same where it does not say how many tasks there are, as Kubernetes
//! ```
//!
//! | scheduler | task | first | tasks |
//! |---|---|---|---|
//! | Slurm, `sbatch --array` | `SLURM_ARRAY_TASK_ID` | `SLURM_ARRAY_TASK_MIN`, in steps of `_STEP` | `SLURM_ARRAY_TASK_COUNT` |
//! | Kubernetes, `completionMode: Indexed` | `JOB_COMPLETION_INDEX` | 0 | `auto/N`: the Job's `completions` |
//!
//! Sources: *Job Array Support* in Slurm's documentation; *Indexed Job* in that of Kubernetes.

use std::str::FromStr;

/// Every `of`th line, beginning with line `index`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).ok();
        match text.split_once('/') {
            None if text == "auto" => of_task(None, variable),
            Some(("auto", of)) => match of.parse() {
                Ok(of) => of_task(Some(of), variable),
                Err(_) => Err("expected auto/n with a whole number n, as in auto/4".into()),
            },
            Some((index, of)) => index
                .parse()
                .ok()
                .zip(of.parse().ok())
                .and_then(|(index, of)| Self::checked(index, of))
                .ok_or_else(|| "expected i/n with i from 1 to n, as in 2/4".into()),
            None => Err("expected i/n as in 2/4, or auto".into()),
        }
    }
}

impl Shard {
    fn checked(index: usize, of: usize) -> Option<Self> {
        (1..=of).contains(&index).then_some(Self { index, of })
    }
}

/// The shard of this task of a scheduler; `tasks` is what the user says about their number.
fn of_task(tasks: Option<usize>, variable: impl Fn(&str) -> Option<String>) -> Result<Shard, String> {
    let number = |name: &str| -> Result<Option<usize>, String> {
        let Some(text) = variable(name) else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| format!("{name} is `{text}`; expected a whole number"))
    };
    let (task, first, step, counted, scheduler) =
        match (number("SLURM_ARRAY_TASK_ID")?, number("JOB_COMPLETION_INDEX")?) {
            (Some(id), _) => {
                let first = number("SLURM_ARRAY_TASK_MIN")?;
                let first = first.ok_or("SLURM_ARRAY_TASK_ID is set, but not SLURM_ARRAY_TASK_MIN")?;
                let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
                (id, first, step, number("SLURM_ARRAY_TASK_COUNT")?, "Slurm")
            }
            (None, Some(index)) => (index, 0, 1, None, "Kubernetes"),
            (None, None) => {
                return Err("neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set: this is no task \
                            of a Slurm array or a Kubernetes Indexed Job; expected i/n as in 2/4"
                    .into());
            }
        };
    let of = match (tasks, counted) {
        (Some(tasks), Some(counted)) if tasks != counted => {
            return Err(format!("auto/{tasks}, but {scheduler} has {counted} tasks; expected auto"));
        }
        (Some(of), _) | (None, Some(of)) => of,
        (None, None) => {
            return Err(format!("{scheduler} does not say how many tasks there are; expected auto/n"));
        }
    };
    let place =
        task.checked_sub(first).filter(|distance| distance % step == 0).map(|distance| distance / step);
    place.and_then(|place| Shard::checked(place + 1, of)).ok_or_else(|| {
        format!(
            "task {task} of {scheduler} is none of {of} from {first} in steps of {step}; expected tasks \
             without gaps, as in --array=0-{}",
            of.saturating_sub(1)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tasks: Option<usize>, environment: &[(&str, &str)]) -> Result<(usize, usize), String> {
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        of_task(tasks, variable).map(|Shard { index, of }| (index, of))
    }

    #[test]
    fn a_task_of_slurm_counts_from_the_first_of_its_array() {
        let slurm = |id, min, step, count| {
            found(
                None,
                &[
                    ("SLURM_ARRAY_TASK_ID", id),
                    ("SLURM_ARRAY_TASK_MIN", min),
                    ("SLURM_ARRAY_TASK_STEP", step),
                    ("SLURM_ARRAY_TASK_COUNT", count),
                ],
            )
        };
        assert_eq!(slurm("0", "0", "1", "4"), Ok((1, 4)));
        assert_eq!(slurm("4", "1", "1", "4"), Ok((4, 4)));
        assert_eq!(slurm("14", "10", "2", "3"), Ok((3, 3)));
        for gaps in [slurm("7", "1", "1", "3"), slurm("11", "10", "2", "3"), slurm("0", "1", "1", "3")] {
            assert!(gaps.is_err_and(|error| error.contains("without gaps")));
        }
        assert!(slurm("x", "0", "1", "4").is_err_and(|error| error.contains("`x`")));
    }

    #[test]
    fn a_task_of_kubernetes_is_told_how_many_there_are() {
        let pod = [("JOB_COMPLETION_INDEX", "3")];
        assert_eq!(found(Some(4), &pod), Ok((4, 4)));
        assert!(found(Some(3), &pod).is_err());
        assert!(found(None, &pod).is_err_and(|error| error.contains("auto/n")));
        assert!(found(None, &[]).is_err_and(|error| error.contains("i/n")));
    }

    #[test]
    fn a_count_that_contradicts_the_scheduler_is_refused() {
        let array =
            [("SLURM_ARRAY_TASK_ID", "2"), ("SLURM_ARRAY_TASK_MIN", "0"), ("SLURM_ARRAY_TASK_COUNT", "4")];
        assert_eq!(found(Some(4), &array), Ok((3, 4)));
        assert!(found(Some(5), &array).is_err_and(|error| error.contains("4 tasks")));
    }

    #[test]
    fn shards_are_written_with_a_slash() {
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, of: 4 }));
        for text in ["0/4", "5/4", "2", "x/4", "auto/x", "", "1/0"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}

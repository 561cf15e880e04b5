//! `aquatint completions SHELL` and `aquatint man`: what a shell and `man` read, made of the flags.

use std::io::{self, Write};

use aquatint_model::Error;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::flags::args::Args;

/// Writes the completions of a shell to stdout.
pub(crate) fn completions(shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "aquatint", &mut script);
    print(&script)
}

/// Writes the manual page to stdout: the program's, then a section for each command.
pub(crate) fn man() -> Result<(), Error> {
    let mut command = Args::command();
    command.build();
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone()).render(&mut page);
    rendered.map_err(Error::run)?;
    for subcommand in command.get_subcommands().filter(|c| c.get_name() != "help") {
        let section = clap_mangen::Man::new(subcommand.clone());
        let title = format!(".SH COMMAND {}\n", subcommand.get_name().to_uppercase());
        page.extend(title.bytes());
        let sections =
            [clap_mangen::Man::render_description_section, clap_mangen::Man::render_options_section];
        for render in sections {
            render(&section, &mut page).map_err(Error::run)?;
        }
    }
    print(&page)
}

fn print(text: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(Error::run)
}

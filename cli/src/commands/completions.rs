//! `aquatint completions SHELL` and `aquatint man`: what a shell and `man` read, made of the flags.

use aquatint_model::Error;
use clap::Command;
use clap_complete::Shell;

/// Writes the completions of a shell to stdout.
pub(crate) fn completions(shell: Shell, command: &mut Command) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "aquatint", &mut script);
    println!("{}", String::from_utf8_lossy(&script).trim_end());
    Ok(())
}

/// Writes the manual page to stdout: the program's, then a section for each command.
pub(crate) fn man(mut command: Command) -> Result<(), Error> {
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
    println!("{}", String::from_utf8_lossy(&page).trim_end());
    Ok(())
}

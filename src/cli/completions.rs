//! Shell completions and manual pages, made from the definitions of the commands.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::args::Cli;
use super::output::{CliError, Console};

/// Prints a completion script.
pub(super) fn print_completions(shell: Shell, console: &mut Console) -> Result<(), CliError> {
    // Into memory first: the generator panics when its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "patgate", &mut script);
    print_text(script, console)
}

/// Prints the page of one command, or of patgate itself.
pub(super) fn print_man(path: &[String], console: &mut Console) -> Result<(), CliError> {
    let mut command = Cli::command();
    command.build();
    let mut page: &Command = &command;
    for name in path {
        page = page.find_subcommand(name).ok_or_else(|| {
            CliError::usage(format!("there is no command 'patgate {}'", path.join(" ")))
                .hint("'patgate help' lists the commands")
        })?;
    }
    let title = std::iter::once("patgate")
        .chain(path.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join("-");
    let mut text = Vec::new();
    clap_mangen::Man::new(page.clone())
        .title(title)
        .render(&mut text)?;
    print_text(text, console)
}

fn print_text(text: Vec<u8>, console: &mut Console) -> Result<(), CliError> {
    let text = String::from_utf8(text).map_err(|error| CliError::from_error(&error))?;
    console.print(text.trim_end())
}

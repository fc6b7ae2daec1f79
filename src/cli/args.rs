//! The command line: what can be typed, and where it goes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::output::{CliError, Console};
use super::{access, alternate, audit, completions, policy, repo, serve, token, user};
use crate::config::{Config, Overrides};
use crate::store::{DATABASE_FILE, Store};

/// A Git server whose every request passes one gate: the personal access token.
#[derive(Debug, Parser)]
#[command(
    name = "patgate",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  patgate serve
  patgate user add alice
  patgate access grant alice contributor DefaultCollection/Web
  patgate token create --user alice --name laptop --scope vso.code_write
  git clone https://localhost:8443/DefaultCollection/Web/_git/site

Options can also be set in patgate.toml and by variables such as PATGATE_DATA_DIR."
)]
pub struct Cli {
    /// What all commands have.
    #[command(flatten)]
    pub common: CommonArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes, before or after its name.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonArgs {
    /// Read settings from this file instead of patgate.toml.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Keep the database and certificates here [default: data].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub data_dir: Option<PathBuf>,
    /// Serve the bare repositories below this directory [default: repos].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub repos: Option<PathBuf>,
}

impl CommonArgs {
    /// The settings that were given on the command line.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            repos: self.repos.clone(),
            ..Overrides::default()
        }
    }

    /// All settings: command line over variables over file over defaults.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read or makes no sense.
    pub fn resolve(&self) -> Result<Config, CliError> {
        Ok(Config::resolve(self.overrides())?)
    }

    /// Opens the store of the data directory, which must be there.
    ///
    /// # Errors
    ///
    /// When it is not, so that a mistyped `--data-dir` does not look like an empty server.
    pub fn open_store(&self) -> Result<Store, CliError> {
        let path = self.resolve()?.data_dir.join(DATABASE_FILE);
        // A file that may not be seen is not one that is missing: opening it says why.
        if !path.try_exists().unwrap_or(true) {
            return Err(
                CliError::failure(format!("there is no database at '{}'", path.display()))
                    .hint("check --data-dir; 'patgate serve' or 'patgate user add' makes a new one"),
            );
        }
        Ok(Store::open(&path)?)
    }

    /// Opens the store of the data directory, and makes both if they are not there.
    ///
    /// # Errors
    ///
    /// When they can be neither opened nor made.
    pub fn create_store(&self) -> Result<Store, CliError> {
        Ok(Store::open(&self.resolve()?.data_dir.join(DATABASE_FILE))?)
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(serve::ServeArgs),
    /// Manage accounts.
    #[command(subcommand, arg_required_else_help = true)]
    User(user::UserCommand),
    /// Manage who may read, change and administer what.
    #[command(subcommand, arg_required_else_help = true)]
    Access(access::AccessCommand),
    /// Manage repositories.
    #[command(subcommand, arg_required_else_help = true)]
    Repo(repo::RepoCommand),
    /// Manage personal access tokens.
    #[command(subcommand, arg_required_else_help = true)]
    Token(token::TokenCommand),
    /// Manage what tokens may be, on the whole server and in collections.
    #[command(subcommand, arg_required_else_help = true)]
    Policy(policy::PolicyCommand),
    /// Manage alternate credentials, for clients that cannot use a token. Prefer tokens wherever you can.
    #[command(subcommand, arg_required_else_help = true)]
    Alternate(alternate::AlternateCommand),
    /// See who changed what.
    #[command(subcommand, arg_required_else_help = true)]
    Audit(audit::AuditCommand),
    /// Print a completion script for a shell.
    #[command(after_help = "\
Example:
  patgate completions bash > /etc/bash_completion.d/patgate")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print a manual page.
    #[command(after_help = "\
Examples:
  patgate man > patgate.1
  patgate man token create | man -l -")]
    Man {
        /// The command that the page is about; none: patgate itself.
        command: Vec<String>,
    },
}

/// Runs the command line of the process and returns its exit status.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody reads to its end is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut console = Console::standard();
    match dispatch(cli, &mut console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print(&mut console);
            ExitCode::from(error.status())
        }
    }
}

/// Runs one command.
///
/// # Errors
///
/// Whatever the command says.
pub fn dispatch(cli: Cli, console: &mut Console) -> Result<(), CliError> {
    let common = &cli.common;
    match cli.command {
        Command::Serve(args) => serve::run(args, common),
        Command::User(command) => user::run(command, common, console),
        Command::Access(command) => access::run(command, common, console),
        Command::Repo(command) => repo::run(command, common, console),
        Command::Token(command) => token::run(command, common, console),
        Command::Policy(command) => policy::run(command, common, console),
        Command::Alternate(command) => alternate::run(command, common, console),
        Command::Audit(command) => audit::run(command, common, console),
        Command::Completions { shell } => completions::print_completions(shell, console),
        Command::Man { command } => completions::print_man(&command, console),
    }
}

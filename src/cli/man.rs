//! `pepay-bridge man`.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::{Cli, Error};

/// The arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Write a page for the program and one for each command into this folder,
    /// which is created if missing; without it, the program's page is printed
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the manual page, or writes all of them.
pub(super) fn man(arguments: &Arguments) -> Result<(), Error> {
    let Some(folder) = &arguments.dir else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page).map_err(Error::failure)?;
        return super::print(&String::from_utf8_lossy(&page));
    };
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    written.map_err(|error| Error::failure(format!("cannot write into {}: {error}", folder.display())))
}

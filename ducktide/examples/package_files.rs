//! Writes the man pages and shell completions of all programs, generated from their flags:
//! `package_files FOLDER`. `cargo xtask dist` puts them into the archive.

use std::{
    env, fs,
    io::{self, Error},
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| Error::other("the first argument is a folder"))?;
    for program in [
        ducktide_producer::Args::command(),
        ducktide_consumer::Args::command(),
        ducktide_compactor::Args::command(),
        ducktide::Args::command(),
    ] {
        write_completions(program.clone(), &folder)?;
        write_man_pages(program, &folder.join("man/man1"))?;
    }
    Ok(())
}

/// Writes one file for each shell, into the folder where it looks for them.
fn write_completions(mut program: Command, folder: &Path) -> io::Result<()> {
    let name = program.get_name().to_owned();
    for (shell, path) in [
        (Shell::Bash, format!("bash-completion/completions/{name}")),
        (Shell::Fish, format!("fish/vendor_completions.d/{name}.fish")),
        (Shell::Zsh, format!("zsh/site-functions/_{name}")),
    ] {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        clap_complete::generate(shell, &mut program, &name, &mut fs::File::create(path)?);
    }
    Ok(())
}

/// Writes a page for the program and for each of its commands.
fn write_man_pages(program: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(program, folder)
}

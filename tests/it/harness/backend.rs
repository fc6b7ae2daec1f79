//! Stock `git http-backend` behind a small CGI bridge: what patgate is compared with.
//!
//! One thread a connection, one request a connection; HTTP/1.1 without TLS, on a loopback port. It knows no
//! credentials: everybody may fetch and push.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::run::PATH;
use super::{Git, Remote};

/// Starts a bridge to the `http-backend` of `git` for the repositories in `root`.
///
/// It serves until the test process ends.
pub fn start(git: &Git, root: &Path) -> Remote {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let base = format!(
        "http://{}",
        listener.local_addr().expect("the port has an address")
    );
    let exec_path = PathBuf::from(git.ok(root, &["--exec-path"]));
    let (program, folder) = (exec_path.join("git-http-backend"), root.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (program, folder) = (program.clone(), folder.clone());
            // A client that goes away in the middle is its own business.
            std::thread::spawn(move || drop(serve(&program, &folder, stream)));
        }
    });
    Remote {
        base,
        userinfo: None,
        root: root.to_owned(),
        config: Vec::new(),
        has_git_marker: false,
    }
}

fn serve(program: &Path, root: &Path, mut stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));

    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", root)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_COMMITTER_NAME", "backend")
        .env("GIT_COMMITTER_EMAIL", "backend@example.com")
        .envs([
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "core.fsync"),
            ("GIT_CONFIG_VALUE_0", "none"),
        ])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("SERVER_PROTOCOL", "HTTP/1.1")
        .env("REMOTE_USER", "anybody")
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let (mut length, mut is_chunked, mut expects_continue) = (0u64, false, false);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? <= 2 {
            break;
        }
        let Some((name, value)) = header.trim_end().split_once(':') else {
            continue;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                length = value
                    .parse()
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                command.env("CONTENT_LENGTH", value);
            }
            "content-type" => drop(command.env("CONTENT_TYPE", value)),
            "content-encoding" => drop(command.env("HTTP_CONTENT_ENCODING", value)),
            "git-protocol" => drop(command.env("GIT_PROTOCOL", value)),
            "transfer-encoding" => is_chunked = value.eq_ignore_ascii_case("chunked"),
            "expect" => expects_continue = true,
            _ => {}
        }
    }
    if expects_continue {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }

    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut stdout = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
    std::thread::scope(|scope| {
        // Reads on when the process has heard enough, so that the client gets to read the answer.
        scope.spawn(move || -> io::Result<()> {
            if is_chunked {
                copy_chunks(&mut reader, &mut stdin)
            } else {
                copy(&mut reader.take(length), &mut stdin)
            }
        });
        answer(&mut stdout, &mut stream)?;
        stream.shutdown(std::net::Shutdown::Write)
    })?;
    child.wait()?;
    Ok(())
}

/// Turns a CGI answer into an HTTP one, whose end is that of the connection.
fn answer(stdout: &mut impl BufRead, stream: &mut impl Write) -> io::Result<()> {
    let (mut status, mut headers) = ("200 OK".to_owned(), String::new());
    loop {
        let mut header = String::new();
        if stdout.read_line(&mut header)? == 0 || header.trim_end().is_empty() {
            break;
        }
        match header.strip_prefix("Status: ") {
            Some(text) => status = text.trim_end().to_owned(),
            None => headers.push_str(&format!("{}\r\n", header.trim_end())),
        }
    }
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n")?;
    io::copy(stdout, stream)?;
    stream.flush()
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 64 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        // A process that closed its input has its answer ready.
        drop(to.write_all(&buffer[..count]));
    }
}

fn copy_chunks(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim_end(), 16)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        copy(&mut from.by_ref().take(size), to)?;
        from.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

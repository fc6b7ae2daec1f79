//! Processes with a time limit, their output and what is asserted about it.

use std::fmt;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Seconds after which a process of a test counts as hung.
const TIME_LIMIT_SECONDS: &str = "180";

/// What a process did.
pub struct Run {
    command: String,
    output: Output,
}

/// A command that is ended when it takes too long, with an environment of its own.
pub fn command(program: &std::path::Path) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", TIME_LIMIT_SECONDS])
        .arg(program)
        .env_clear();
    for (name, value) in [("LC_ALL", "C.UTF-8"), ("TZ", "UTC"), ("PATH", PATH)] {
        command.env(name, value);
    }
    command
}

/// Where processes of the tests find other programs.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `command` to its end with `input` on its standard input.
pub fn run(command: &mut Command, input: &[u8]) -> Run {
    let text = describe(command);
    let mut child = spawn(command);
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let output = std::thread::scope(|scope| {
        // A process that ends without reading all of its input is judged by its status, not by the broken pipe.
        scope.spawn(move || drop(stdin.write_all(input)));
        child
            .wait_with_output()
            .expect("the output of a child can be read")
    });
    let run = Run {
        command: text,
        output,
    };
    assert_ne!(
        run.code(),
        Some(124),
        "took longer than {TIME_LIMIT_SECONDS} seconds: {run}"
    );
    run
}

/// Starts `command` with all three streams piped.
pub fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|err| panic!("cannot start {command:?}: {err}"))
}

/// The end of a child that [`spawn`] started.
pub fn finish(child: Child, what: &str) -> Run {
    Run {
        command: what.to_owned(),
        output: child
            .wait_with_output()
            .expect("the output of a child can be read"),
    }
}

fn describe(command: &Command) -> String {
    // The first three are `timeout` and its options.
    let words: Vec<String> = command
        .get_args()
        .skip(2)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}

impl Run {
    /// Exit status; none when a signal ended the process.
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// Whether the process ended with status 0.
    pub fn is_ok(&self) -> bool {
        self.output.status.success()
    }

    /// Standard output as bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.output.stdout
    }

    /// Standard output as text, without the line break at its end.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout)
            .trim_end_matches('\n')
            .to_owned()
    }

    /// Standard error as text. Carriage returns, which progress writes, count as line breaks.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).replace('\r', "\n")
    }

    /// Asserts that the process succeeded and returns its output.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert!(self.is_ok(), "must succeed: {self}");
        self.out()
    }

    /// Asserts that the process failed by itself.
    #[track_caller]
    pub fn failed(&self) -> &Run {
        assert!(
            matches!(self.code(), Some(code) if code != 0),
            "must fail: {self}"
        );
        self
    }

    /// Asserts that standard error has `text` in it.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Run {
        assert!(self.err().contains(text), "must say '{text}': {self}");
        self
    }

    /// Asserts that neither stream has `text` in it.
    #[track_caller]
    pub fn never_says(&self, text: &str) -> &Run {
        assert!(
            !self.err().contains(text) && !self.out().contains(text),
            "must not say '{text}': {self}"
        );
        self
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = self.out();
        if out.len() > 4000 {
            out = out.chars().take(4000).collect();
        }
        write!(
            f,
            "{}\n{}\n--- stdout\n{out}\n--- stderr\n{}",
            self.command,
            self.output.status,
            self.err()
        )
    }
}

/// Becomes true when it is dropped, so that threads which wait for it end when a test panics, too.
pub struct Flag<'a>(pub &'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A number that no other call in this process returns.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

//! `vspc-conformance mux`: two ends over a simulated line, transcripts, and a peer for real lines.
//!
//! Owns the command line and the exit codes: 0 all well, 1 something was found wrong, 2 the command line was.

mod peer;
mod play;
mod simulation;
pub mod transcript;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use vspc_core::mux::link::{LinkConfig, Repeat};
use vspc_core::mux::{Config, Role};

pub use peer::PeerArgs;
pub use play::{PlayArgs, Report, StreamReport, play};

/// Many streams over one serial line: without a subcommand, plays two ends against each other.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MuxArgs {
    #[command(subcommand)]
    command: Option<MuxCommand>,
    #[command(flatten)]
    play: PlayArgs,
}

#[derive(Subcommand, Debug)]
enum MuxCommand {
    /// Plays two ends against each other over a simulated line and verifies every byte.
    Play(PlayArgs),
    /// Replays transcripts against this implementation and judges what it says.
    Replay(ReplayArgs),
    /// Is one end of a real line: standard input and output, a unix socket, a pseudo-terminal, or another
    /// program.
    Peer(PeerArgs),
}

/// Which transcripts to judge.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// Files, or folders of `*.mux` files.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// One JSON object per transcript.
    #[arg(long)]
    json: bool,
}

/// The layer under the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LinkChoice {
    /// None: the line is clean.
    None,
    /// SL, go-back-N.
    GoBackN,
    /// SL, selective repeat.
    Selective,
}

impl LinkChoice {
    /// A link's configuration, for a line of `baud` bits per second.
    fn config(self, nonce: u32, baud: u32, payload: u16, window: u16) -> Option<LinkConfig> {
        let mut config = LinkConfig::new(nonce);
        config.repeat = match self {
            Self::None => return None,
            Self::GoBackN => Repeat::GoBackN,
            Self::Selective => Repeat::Selective,
        };
        (config.bits_per_second, config.max_payload, config.window) = (baud, payload, window);
        Some(config)
    }
}

/// A session's configuration: the frame and window asked for, buffers to match.
fn session_config(role: Role, max_frame: u16, window: u32) -> Config {
    let mut config = Config::new(role);
    config.max_frame = max_frame;
    config.window = window;
    config.receive_buffer = window.max(max_frame.into());
    config.send_buffer = config.receive_buffer.saturating_mul(2);
    config
}

/// The byte at `offset` of what one side says on a stream: known to both, so that each can verify the other.
#[must_use]
pub fn byte_at(stream: u64, from_host: bool, offset: u64) -> u8 {
    let mixed = offset
        .wrapping_mul(0x9e37_79b9)
        .wrapping_add(stream.wrapping_mul(0x85eb_ca6b))
        .wrapping_add(u64::from(from_host) << 20);
    (mixed >> 13) as u8 ^ mixed as u8
}

/// Does what the command line says.
#[must_use]
pub fn run(args: MuxArgs) -> ExitCode {
    match args.command {
        None => play::run(&args.play),
        Some(MuxCommand::Play(play)) => play::run(&play),
        Some(MuxCommand::Replay(replay)) => run_replay(&replay),
        Some(MuxCommand::Peer(peer)) => peer::run(&peer),
    }
}

fn run_replay(args: &ReplayArgs) -> ExitCode {
    let files = match transcript::collect(&args.paths) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let mut failed = 0;
    for file in &files {
        let verdict = transcript::judge_file(file);
        if args.json {
            let (runs, error) = match &verdict {
                Ok(runs) => (Some(*runs), None),
                Err(error) => (None, Some(error.to_string())),
            };
            let file = file.display().to_string();
            println!(
                "{}",
                serde_json::json!({ "file": file, "ok": error.is_none(), "runs": runs, "error": error })
            );
        } else {
            match &verdict {
                Ok(runs) => println!("ok   {} ({runs} ways of cutting the input)", file.display()),
                Err(error) => println!("FAIL {}: {error}", file.display()),
            }
        }
        failed += usize::from(verdict.is_err());
    }
    if !args.json {
        println!("{} transcripts, {failed} failed", files.len());
    }
    ExitCode::from(u8::from(failed > 0))
}

//! The options of the look itself. They are for the command line alone.

use clap::{Args, ValueEnum};

/// The options of the look itself.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Look at the machine as a server with these options would find it, say what is in its way and what to
    /// do, and exit: with code 1 if there is an error. =json: the same as JSON.
    #[arg(long, value_name = "FORM", value_enum, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "text", hide_possible_values = true, help_heading = DIAGNOSTICS)]
    pub doctor: Option<Form>,

    /// With --doctor: for how many VMs the machine is to be enough [default: as many as there are client
    /// ports].
    #[arg(long, value_name = "NUMBER", requires = "doctor", help_heading = DIAGNOSTICS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub doctor_vms: Option<u32>,
}

/// How it is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Form {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}

const DIAGNOSTICS: &str = "Process and diagnostics";

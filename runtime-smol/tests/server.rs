//! The tests that both servers share, run against this one.

use vspc_server_tests::Subject;

const SUBJECT: Subject = Subject { program: env!("CARGO_BIN_EXE_vspc-smol"), serve: vspc_smol::serve };

mod server {
    vspc_server_tests::server_tests!(crate::SUBJECT);
}

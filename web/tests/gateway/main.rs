//! The gateway as a process, beside a real concentrator with VMs made by hand of bytes.

mod authority;
mod browser;
mod consoles;
mod figures;
mod guests;
mod logins;
mod metrics;
mod openapi;
mod openmetrics;
mod operating;
mod people;
mod processes;
mod proxies;
mod sharing;
mod sockets;
mod strangers;
mod tls;

//! Where a server listens, as its options say.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use vspc_core::concentrator::{Address, PortRange, SocketFile};

use crate::options::Options;

impl Options {
    /// The address at which other machines can reach client ports, if they can.
    pub(crate) fn exposed(&self) -> Option<IpAddr> {
        let ip = self.interface.ip()?;
        (!self.no_vm_ports && !ip.to_canonical().is_loopback()).then_some(ip)
    }

    /// The address at which other machines can reach the admin port, if they can.
    pub(crate) fn exposed_admin(&self) -> Option<IpAddr> {
        let mut all = self.admin_addresses().into_iter().filter_map(|address| address.ip());
        all.find(|ip| !ip.is_loopback())
    }

    /// Somebody said where the admin port is to be: without it there is no point in starting.
    pub(crate) fn needs_admin(&self) -> bool {
        self.names_admin_port() || !self.admin_listen.is_empty()
    }

    fn names_admin_port(&self) -> bool {
        self.admin_port.is_some() || self.admin_iface.is_some()
    }

    /// Where hosts connect.
    pub(crate) fn vm_addresses(&self) -> Vec<Address> {
        let proxy = self.proxy_addresses().map(Address::Ip);
        let mut all: Vec<Address> = Vec::new();
        for address in proxy.chain(self.vm_listen.iter().cloned()) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        let covers: Vec<SocketAddr> = all.iter().filter_map(ip_address).collect();
        all.retain(|address| ip_address(address).is_none_or(|address| !is_covered(address, &covers)));
        all
    }

    /// Those of `--proxy-port` and `--proxy-iface`.
    pub(crate) fn proxy_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let ips = match self.vm_listen.is_empty() || self.names_proxy_port {
            true => &self.proxy_iface[..],
            false => &[],
        };
        ips.iter().map(|ip| SocketAddr::new(*ip, self.proxy_port))
    }

    /// The first TCP port where hosts connect, as a serial port's URI would name it.
    pub(crate) fn vm_port(&self) -> u16 {
        let addresses = self.vm_addresses();
        addresses.iter().filter_map(ip_address).next().map_or(self.proxy_port, |address| address.port())
    }

    /// Where those connect who ask about consoles.
    pub(crate) fn admin_addresses(&self) -> Vec<Address> {
        let port = self.admin_address().map(Address::Ip);
        let socket = self.admin_socket_file().map(Address::Unix);
        port.into_iter().chain(socket).chain(self.admin_listen.iter().cloned()).collect()
    }

    /// That of `--admin-socket`.
    pub(crate) fn admin_socket_file(&self) -> Option<Arc<SocketFile>> {
        let path = self.admin_socket.clone()?;
        let (mode, group) = (self.admin_socket_mode, self.admin_socket_group);
        Some(Arc::new(SocketFile { path, mode, owner: None, group }))
    }

    /// That of `--admin-port` and `--admin-iface`.
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        let ip = self.admin_iface.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let is_open = !self.no_admin && (self.names_admin_port() || self.admin_listen.is_empty());
        is_open.then(|| SocketAddr::new(ip, self.admin_port.unwrap_or(ADMIN_PORT)))
    }

    /// Port 0 alone means that the system chooses; as the start of a range it means nothing.
    pub(crate) fn port_range(&self) -> PortRange {
        let first = self.port_range_start;
        PortRange { first, last: self.port_range_end.unwrap_or(if first == 0 { 0 } else { u16::MAX }) }
    }

    /// `::` serves every address of both families and `0.0.0.0` every IPv4 one; listening on those again
    /// would fail.
    pub(crate) fn drop_covered_interfaces(&mut self) {
        let given: Vec<SocketAddr> = self.proxy_iface.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
        let mut kept: Vec<IpAddr> = Vec::new();
        for address in &given {
            if !is_covered(*address, &given) && !kept.contains(&address.ip()) {
                kept.push(address.ip());
            }
        }
        self.proxy_iface = kept;
    }
}

/// Another of these addresses serves this one, too.
fn is_covered(address: SocketAddr, by: &[SocketAddr]) -> bool {
    let (every, every_v4) = (IpAddr::from([0_u16; 8]), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let (ip, has) = (address.ip(), |ip| by.contains(&SocketAddr::new(ip, address.port())));
    (ip != every && has(every)) || (ip.is_ipv4() && ip != every_v4 && has(every_v4))
}

fn ip_address(address: &Address) -> Option<SocketAddr> {
    match address {
        Address::Ip(address) => Some(*address),
        _ => None,
    }
}

/// As vSPC.py has it.
const ADMIN_PORT: u16 = 13371;

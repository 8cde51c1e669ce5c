//! Whether a port listens inside a container, read from `/proc/PID/net/tcp` and `tcp6` (proc_net_tcp.rst): no packet is
//! sent and no namespace entered.

use super::machine::Outcome;

/// `TCP_LISTEN` of the kernel's include/net/tcp_states.h, as the file prints it.
const LISTEN: &str = "0A";

/// Whether `port` listens in the network namespace of `pid`.
pub(super) async fn probe(pid: i32, port: u16) -> Outcome {
    for file in ["tcp", "tcp6"] {
        let table = tokio::fs::read_to_string(format!("/proc/{pid}/net/{file}")).await;
        if table.is_ok_and(|table| listens(&table, port)) {
            return Outcome::Passed;
        }
    }
    Outcome::Failed
}

/// Whether a row listens on `port` at an address that others can reach: a listener on loopback serves nobody outside.
fn listens(table: &str, port: u16) -> bool {
    table.lines().skip(1).any(|row| {
        let mut columns = row.split_ascii_whitespace().skip(1);
        let (local, state) = (columns.next(), columns.nth(1));
        let Some((address, row_port)) = local.and_then(|local| local.rsplit_once(':')) else { return false };
        state == Some(LISTEN) && u16::from_str_radix(row_port, 16) == Ok(port) && !is_loopback(address)
    })
}

/// Addresses are printed as hexadecimal words in the machine's byte order; both of ours are little-endian.
fn is_loopback(address: &str) -> bool {
    match address.len() {
        8 => address.ends_with("7F"),
        32 => {
            address == "00000000000000000000000001000000"
                || (address.starts_with("0000000000000000FFFF0000") && address.ends_with("7F"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue\n";

    #[test]
    fn reads_listeners_from_the_kernels_table() {
        let check = |row: &str, port: u16, expected: bool| {
            assert_eq!(listens(&format!("{HEAD}{row}\n"), port), expected, "{row} {port}");
        };
        check("   0: 00000000:23F0 00000000:0000 0A 00000000:00000000", 9200, true);
        check("   0: 00000000:23F0 00000000:0000 0A 00000000:00000000", 9201, false);
        check("   0: 0100007F:23F0 00000000:0000 0A 00000000:00000000", 9200, false);
        check("   0: 020011AC:23F0 00000000:0000 01 00000000:00000000", 9200, false);
        check("   0: 00000000000000000000000000000000:23F0 00000000000000000000000000000000:0000 0A 0", 9200, true);
        check("   0: 00000000000000000000000001000000:23F0 00000000000000000000000000000000:0000 0A 0", 9200, false);
        check("garbage", 9200, false);
        check("", 9200, false);
    }

    #[tokio::test]
    async fn sees_a_real_listener() {
        let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let shut = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(probe(own, open.local_addr().unwrap().port()).await, Outcome::Passed);
        assert_eq!(probe(own, shut.local_addr().unwrap().port()).await, Outcome::Failed);
        assert_eq!(probe(i32::MAX, 80).await, Outcome::Failed);
    }
}

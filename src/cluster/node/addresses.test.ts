import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { link } from "../testing.ts";
import { parseRemoteAddress, resolveInitAddresses, resolveJoinAddresses } from "./addresses.ts";

const lo = link("lo", "127.0.0.1/8", "::1/128");
const eth0 = link("eth0", "10.30.10.111/24", "fe80::1/64");
const eth1 = link("eth1", "192.168.5.2/24");
const wanted = (listenAddress = "", advertiseAddress = "", dataPathAddress = "") => ({
  listenAddress,
  advertiseAddress,
  dataPathAddress,
});
const advertised = (request: ReturnType<typeof wanted>, ...links: ReturnType<typeof link>[]) => {
  const { advertise } = resolveInitAddresses(request, links);
  return `${advertise.address}:${advertise.portHostOrder}`;
};

describe("addresses of init", () => {
  it("default to the system's only one, with the port listened on", () => {
    assert.equal(advertised(wanted(), lo, eth0), "10.30.10.111:2377");
    assert.equal(advertised(wanted("0.0.0.0:2400"), lo, eth0), "10.30.10.111:2400");
    assert.equal(advertised(wanted("10.30.10.111:2377"), lo, eth0, eth1), "10.30.10.111:2377");
  });
  it("are taken as address, address and port, or interface", () => {
    assert.equal(advertised(wanted("", "192.168.5.2"), lo, eth0, eth1), "192.168.5.2:2377");
    assert.equal(advertised(wanted("", "192.168.5.2:99"), lo, eth0, eth1), "192.168.5.2:99");
    assert.equal(advertised(wanted("", "eth1:88"), lo, eth0, eth1), "192.168.5.2:88");
    assert.equal(resolveInitAddresses(wanted("eth0", "", "eth1"), [lo, eth0, eth1]).dataPath, "192.168.5.2");
    assert.equal(resolveInitAddresses(wanted("eth0:1"), [lo, eth0, eth1]).listen.address, "10.30.10.111");
  });
  it("are refused in Docker's words", () => {
    const refused = (text: RegExp, request: ReturnType<typeof wanted>, ...links: ReturnType<typeof link>[]) =>
      assert.throws(() => resolveInitAddresses(request, links), text);
    refused(
      /multiple addresses on different interfaces \(10.30.10.111 on eth0 and 192.168.5.2 on eth1\)$/,
      wanted(),
      lo,
      eth0,
      eth1,
    );
    refused(
      /multiple addresses on interface eth0 \(10.0.0.1 and 10.0.0.2\)$/,
      wanted(),
      lo,
      link("eth0", "10.0.0.1/8", "10.0.0.2/8"),
    );
    refused(/could not find the system's IP address/, wanted(), lo);
    refused(
      /advertise address must be a non-zero IP address or network interface \(with/,
      wanted("", "nosuch0"),
      lo,
      eth0,
    );
    refused(/advertise address must be a non-zero/, wanted("", "0.0.0.0"), lo, eth0);
    refused(
      /data path address must be a non-zero IP address or network interface \(without/,
      wanted("", "", "eth0:1"),
      lo,
      eth0,
    );
    refused(/listen address must be an IP address or network interface/, wanted("nosuch0"), lo, eth0);
    refused(/could not parse listen address 0.0.0.0:x/, wanted("0.0.0.0:x"), lo, eth0);
    refused(
      /interface eth2 has more than one IPv4 address \(10.0.0.1 and 10.0.0.2\)/,
      wanted("", "eth2"),
      link("eth2", "10.0.0.1/8", "10.0.0.2/8"),
    );
    refused(
      /must specify a listening address because the address to advertise is not recognized/,
      wanted("", "8.8.8.8"),
      lo,
      eth0,
      eth1,
    );
  });
});

describe("addresses of join", () => {
  it("may stay open until the manager is known", () => {
    const { advertise, dataPath } = resolveJoinAddresses(wanted("0.0.0.0:2377"), [lo, eth0, eth1]);
    assert.equal(advertise, undefined);
    assert.equal(dataPath, undefined);
  });
  it("of managers: port 2377 by default", () => {
    assert.equal(parseRemoteAddress("10.0.0.1"), "10.0.0.1:2377");
    assert.equal(parseRemoteAddress("tcp://h:99"), "h:99");
    assert.equal(parseRemoteAddress("[fd00::1]:5"), "[fd00::1]:5");
    for (const bad of ["", "http://x", "a:b", "a:70000"])
      assert.throws(() => parseRemoteAddress(bad), /Invalid bind address format/);
  });
});

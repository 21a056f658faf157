import { encodeAttribute, isNetlinkErrno, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, u32, type Netlink } from './netlink.ts';

/** From linux/rtnetlink.h, linux/if_link.h and linux/veth.h. */
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_NEWROUTE = 24;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINKINFO = 18;
const IFLA_NET_NS_FD = 28;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const IFF_UP = 1;
const AF_INET = 2;
const ENODEV = 19;
const RT_TABLE_MAIN = 254;
const RT_TABLE_LOCAL = 255;
const RTPROT_STATIC = 4;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
const RT_SCOPE_HOST = 254;

export const LOOPBACK_INDEX = 1;
/** An address of IPv4: four bytes. */
export type Ipv4 = readonly [number, number, number, number];

/** Two ends of a cable: `name` here, `peer` in another network namespace. Both go when either namespace does. @throws HdError NETLINK with EEXIST (17) where the name is taken */
export function addVeth(netlink: Netlink, { name, peer, peerNamespace, mtuBytes }: { name: string; peer: string; peerNamespace: number; mtuBytes: number }): void {
  netlink.send({
    type: RTM_NEWLINK,
    flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
    head: linkHead(0),
    attributes: [
      [IFLA_IFNAME, name],
      [IFLA_MTU, u32(mtuBytes)],
      [IFLA_LINKINFO, [
        [IFLA_INFO_KIND, 'veth'],
        // The structure of a link stands before the peer's own attributes.
        [IFLA_INFO_DATA, [[VETH_INFO_PEER, Buffer.concat([linkHead(0), encodeAttribute([IFLA_IFNAME, peer]), encodeAttribute([IFLA_MTU, u32(mtuBytes)]), encodeAttribute([IFLA_NET_NS_FD, u32(peerNamespace)])])]]],
      ]],
    ],
  });
}

/** One that is gone is no error: it may have gone with the namespace of its other end. */
export function removeLink(netlink: Netlink, name: string): void {
  try {
    netlink.send({ type: RTM_DELLINK, flags: NLM_F_ACK, head: linkHead(0), attributes: [[IFLA_IFNAME, name]] });
  } catch (error) {
    if (!isNetlinkErrno(error, ENODEV)) throw error;
  }
}

export function linkIndex(netlink: Netlink, name: string): number {
  return netlink.ask({ type: RTM_GETLINK, head: linkHead(0), attributes: [[IFLA_IFNAME, name]] }).readInt32LE(4);
}

export function setUp(netlink: Netlink, index: number): void {
  netlink.send({ type: RTM_NEWLINK, flags: NLM_F_ACK, head: linkHead(index, IFF_UP) });
}

export function addAddress(netlink: Netlink, index: number, address: Ipv4, prefixBits: number): void {
  const head = Buffer.alloc(8);
  head.set([AF_INET, prefixBits, 0, 0], 0);
  head.writeUInt32LE(index, 4);
  netlink.send({ type: RTM_NEWADDR, flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, head, attributes: [[IFA_LOCAL, Buffer.from(address)], [IFA_ADDRESS, Buffer.from(address)]] });
}

/** Everything that no other route is for goes to a gateway. */
export function addDefaultRoute(netlink: Netlink, index: number, gateway: Ipv4): void {
  netlink.send({ type: RTM_NEWROUTE, flags: NLM_F_ACK | NLM_F_CREATE, head: routeHead(RT_TABLE_MAIN, 0, RTN_UNICAST), attributes: [[RTA_GATEWAY, Buffer.from(gateway)], [RTA_OIF, u32(index)]] });
}

/** Every address is one of this namespace's own. */
export function claimAllAddresses(netlink: Netlink): void {
  netlink.send({ type: RTM_NEWROUTE, flags: NLM_F_ACK | NLM_F_CREATE, head: routeHead(RT_TABLE_LOCAL, RT_SCOPE_HOST, RTN_LOCAL), attributes: [[RTA_OIF, u32(LOOPBACK_INDEX)]] });
}

/** struct ifinfomsg */
function linkHead(index: number, flags = 0): Buffer {
  const head = Buffer.alloc(16);
  head.writeInt32LE(index, 4);
  head.writeUInt32LE(flags, 8);
  head.writeUInt32LE(flags, 12);
  return head;
}

/** struct rtmsg, for a route to everywhere */
function routeHead(table: number, scope: number, type: number): Buffer {
  const head = Buffer.alloc(12);
  head.set([AF_INET, 0, 0, 0, table, RTPROT_STATIC, scope, type], 0);
  return head;
}

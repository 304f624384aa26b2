/** What a link on the default bridge tells the parent of the child. */
export interface Link {
  readonly alias: string;
  /** Without slash. */
  readonly parentName: string;
  readonly childAddress: string;
  /** `80/tcp`. */
  readonly childPorts: readonly string[];
  readonly childEnv: readonly string[];
}

interface Port {
  readonly number: number;
  readonly protocol: string;
}

/**
 * The variables of legacy links (reference: network-data-plane 9.6). Pure; to be put in front of the container's own, which
 * win. Resolved at each start, since addresses change.
 */
export function linkEnvironment(link: Link): readonly string[] {
  const prefix = link.alias.toUpperCase().replaceAll("-", "_");
  const ports = sortedPorts(link.childPorts);
  const [first] = ports;
  const url = (port: Port) => `${port.protocol}://${link.childAddress}:${port.number}`;
  const name = (port: Port) => `${prefix}_PORT_${port.number}_${port.protocol.toUpperCase()}`;
  return [
    `${prefix}_NAME=/${link.parentName}/${link.alias}`,
    ...(first === undefined ? [] : [`${prefix}_PORT=${url(first)}`]),
    ...ports.flatMap((port) => [
      `${name(port)}=${url(port)}`,
      `${name(port)}_ADDR=${link.childAddress}`,
      `${name(port)}_PORT=${port.number}`,
      `${name(port)}_PROTO=${port.protocol}`,
    ]),
    ...ranges(ports).flatMap(([start, end]) => [
      `${name(start)}_START=${url(start)}`,
      `${name(start)}_PORT_START=${start.number}`,
      `${name(start)}_END=${url(end)}`,
      `${name(start)}_PORT_END=${end.number}`,
    ]),
    ...link.childEnv
      .filter((variable) => !/^(HOME|PATH)=/.test(variable))
      .map((variable) => `${prefix}_ENV_${variable}`),
  ];
}

/** TCP first, then by number. */
function sortedPorts(specs: readonly string[]): readonly Port[] {
  const ports = specs.map((spec) => {
    const [number = "", protocol = "tcp"] = spec.split("/");
    return { number: Number(number), protocol };
  });
  const rank = (port: Port) => (port.protocol === "tcp" ? 0 : 1);
  return ports.sort((a, b) => rank(a) - rank(b) || a.number - b.number);
}

/** Runs of two and more neighbouring ports of one protocol. */
function ranges(ports: readonly Port[]): readonly (readonly [Port, Port])[] {
  const out: [Port, Port][] = [];
  for (const port of ports) {
    const last = out.at(-1);
    if (last !== undefined && last[1].protocol === port.protocol && last[1].number + 1 === port.number) last[1] = port;
    else out.push([port, port]);
  }
  return out.filter(([start, end]) => start !== end);
}

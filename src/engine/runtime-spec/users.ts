import { EngineError } from "../../base/errors.ts";

/** Who a process runs as. */
export interface OciUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
}

/** Files of the container, not of the host; missing ones are empty. */
export interface UserDatabase {
  readonly passwd: string;
  readonly group: string;
}

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

const highestId = 2 ** 31 - 1;

/**
 * Resolves `user`, `user:group`, `uid`, `uid:gid` and the groups of `--group-add` as Docker does. Pure.
 *
 * @throws {EngineError} `invalid` for a name without an entry.
 */
export function resolveUser(user: string, groupAdd: readonly string[], files: UserDatabase): OciUser {
  const passwd = parsePasswd(files.passwd);
  const groups = parseGroup(files.group);
  const colon = user.indexOf(":");
  const userPart = colon < 0 ? user : user.slice(0, colon);
  const groupPart = colon < 0 ? "" : user.slice(colon + 1);

  const account = findAccount(userPart, passwd);
  const gid = groupPart === "" ? account.gid : findGroup(groupPart, groups);
  const memberships =
    groupPart === "" && account.name !== undefined
      ? groups.filter((entry) => entry.members.includes(account.name as string)).map((entry) => entry.gid)
      : [];
  const added = groupAdd.map((name) => findGroup(name, groups));
  // The primary group is listed too: else a process could gain by dropping it (CVE-2022-36109).
  return { uid: account.uid, gid, additionalGids: [...new Set([gid, ...memberships, ...added])] };
}

function findAccount(
  text: string,
  passwd: readonly PasswdEntry[],
): { readonly uid: number; readonly gid: number; readonly name: string | undefined } {
  if (text === "") {
    const root = passwd.find((entry) => entry.uid === 0);
    return { uid: 0, gid: root?.gid ?? 0, name: root?.name };
  }
  const byName = passwd.find((entry) => entry.name === text);
  if (byName !== undefined) return byName;
  const uid = parseId(text);
  if (uid === undefined) {
    // compat:
    throw new EngineError("invalid", `unable to find user ${text}: no matching entries in passwd file`);
  }
  const byUid = passwd.find((entry) => entry.uid === uid);
  return { uid, gid: byUid?.gid ?? 0, name: byUid?.name };
}

function findGroup(text: string, groups: readonly GroupEntry[]): number {
  const found = groups.find((entry) => entry.name === text)?.gid ?? parseId(text);
  if (found === undefined) {
    // compat:
    throw new EngineError("invalid", `unable to find group ${text}: no matching entries in group file`);
  }
  return found;
}

function parseId(text: string): number | undefined {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  return value <= highestId ? value : undefined;
}

/** `name:password:uid:gid:gecos:home:shell`; lines that do not parse are skipped. */
function parsePasswd(text: string): readonly PasswdEntry[] {
  return text.split("\n").flatMap((line) => {
    const [name, , uid, gid] = line.trim().split(":");
    if (name === undefined || name === "" || uid === undefined || gid === undefined) return [];
    const ids = [parseId(uid), parseId(gid)] as const;
    return ids[0] === undefined || ids[1] === undefined ? [] : [{ name, uid: ids[0], gid: ids[1] }];
  });
}

/** `name:password:gid:member,member`. */
function parseGroup(text: string): readonly GroupEntry[] {
  return text.split("\n").flatMap((line) => {
    const [name, , gid, members] = line.trim().split(":");
    const id = gid === undefined ? undefined : parseId(gid);
    if (name === undefined || name === "" || id === undefined) return [];
    return [{ name, gid: id, members: (members ?? "").split(",").filter((member) => member !== "") }];
  });
}

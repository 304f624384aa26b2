import { EngineError } from "../../base/errors.ts";
import type { Random } from "../../base/random.ts";

const adjectives =
  "able agile amber apt ardent bold brave breezy bright brisk calm candid careful cheerful clear clever cosy crisp curious daring deft earnest eager easy elated fair fine fluent fond frank free fresh gentle glad golden good grand happy hardy hearty honest humble jolly jovial keen kind lively loyal lucid mellow merry mild modest neat nimble noble patient peaceful placid plucky polite proud prudent quick quiet ready robust sage serene sharp silver sincere smart snug sober solid spry stable steady still stoic sturdy subtle sunny swift tender thrifty tidy tranquil trusty upbeat valiant vivid warm wise witty zesty".split(
    " ",
  );

/** People who made networks, looms and the mathematics of both. */
const surnames =
  "abbate anning arkwright babbage baran bartik berners borg boole cerf cartwright clarke crocker davies dijkstra dolev elliott engelbart erlang euler farber feinler floyd galvin goldberg hamilton hamming hopper holberton huffman hypatia jacquard jacobson johnson kahn kay kleinrock knuth kirstein lamarr lamport liskov lovelace lynch mauchly metcalfe mills mockapetris moore nygaard nyquist perlman pouzin postel rivest roberts sammet shamir shannon snyder spafford taylor thompson tomlinson torvalds turing vonneumann watt wheatstone wilkes wozniak yalow zhang zimmermann".split(
    " ",
  );

/** `adjective_surname`; after some taken ones with a digit behind. `isTaken` is asked without the slash. */
export function generateName(random: Random, isTaken: (name: string) => boolean): string {
  const pick = (words: readonly string[]) => words[random.below(words.length)] as string;
  for (let attempt = 0; ; attempt++) {
    const base = `${pick(adjectives)}_${pick(surnames)}`;
    const name = attempt < 6 ? base : `${base}${random.below(10 ** Math.min(attempt - 5, 9))}`;
    if (!isTaken(name)) return name;
  }
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/**
 * A name as typed, without the slash that old clients put in front.
 * @throws {EngineError} `invalid` in Docker's words.
 */
export function parseContainerName(text: string): string {
  const name = text.startsWith("/") ? text.slice(1) : text;
  if (namePattern.test(name)) return name;
  // compat:
  throw new EngineError("invalid", `Invalid container name (${text}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
}

/** compat: what create and rename answer for a taken name. */
export function nameConflict(name: string, ownerId: string): EngineError {
  return new EngineError(
    "conflict",
    `Conflict. The container name "/${name}" is already in use by container "${ownerId}". You have to remove (or rename) that container to be able to reuse that name.`,
  );
}

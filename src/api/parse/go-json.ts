import { z } from "zod";
import { invalid } from "../errors.ts";

// Request bodies as Go's decoder takes them: unknown fields are ignored, null and absent are the zero value.
export const text = z
  .string()
  .nullish()
  .transform((value) => value ?? "");
export const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);
export const integer = z
  .int()
  .nullish()
  .transform((value) => value ?? 0);
export const optionalInteger = z
  .int()
  .nullish()
  .transform((value) => value ?? undefined);
export const optionalFlag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? undefined);
export const texts = z
  .array(z.string())
  .nullish()
  .transform((value): readonly string[] => value ?? []);
export const textMap = z
  .record(z.string(), z.string().nullable())
  .nullish()
  .transform(
    (value): Readonly<Record<string, string>> =>
      Object.fromEntries(Object.entries(value ?? {}).map(([key, item]) => [key, item ?? ""])),
  );
/** A set, as Go writes it: `{"80/tcp": {}}`. */
export const textSet = z
  .record(z.string(), z.looseObject({}).nullable())
  .nullish()
  .transform((value): readonly string[] => Object.keys(value ?? {}));
/** A list of strings that may also be sent as one string. */
export const textOrTexts = z
  .union([z.string().transform((one) => [one]), z.array(z.string())])
  .nullish()
  .transform((value): readonly string[] | undefined => value ?? undefined);
/** Kept word for word. */
export const anything = z.unknown().optional();

/** @throws {EngineError} `invalid`, in Docker's words, when the value does not have the shape. */
export function decodeBody<T>(schema: z.ZodType<T>, value: unknown): T {
  if (value === undefined) throw invalid("invalid JSON: got EOF while reading request body");
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = issue?.path ?? [];
  const found = path.reduce<unknown>(
    (at, key) => (typeof at === "object" && at !== null ? (at as Record<PropertyKey, unknown>)[key] : undefined),
    value,
  );
  const field = path.length === 0 ? "" : ` into Go struct field .${path.map(String).join(".")}`;
  // compat: the shape of encoding/json's own message; the Go type behind it is of no use to anybody.
  throw invalid(`invalid JSON: json: cannot unmarshal ${kindOf(found)}${field} of type ${wanted(issue)}`);
}

function wanted(issue: z.core.$ZodIssue | undefined): string {
  if (issue?.code !== "invalid_type") return "string";
  return (
    { boolean: "bool", array: "list", record: "map", object: "struct", number: "int64", int: "int64" }[
      issue.expected as string
    ] ?? String(issue.expected)
  );
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return "null";
  if (typeof value === "boolean") return "bool";
  return Array.isArray(value) ? "array" : typeof value;
}

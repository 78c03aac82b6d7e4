/** Message of an error. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The kernel has refused a request. */
export class RequestError extends Error {
  /** @param field - field of the form that the error is about; empty for none. */
  constructor(
    message: string,
    readonly field = ''
  ) {
    super(message);
  }
}

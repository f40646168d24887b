/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HANDLES_H
#define HANDLES_H

/** Around all that opens or closes handles of Xen's libraries, creates a domain or destroys one (handles.c says why). */
void handles_begin(void);
void handles_end(void);

#endif /* HANDLES_H */

/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * tee_client_api.h - GlobalPlatform TEE Client API 1.0 for Tegata
 *
 * NAME
 *   TEEC_InitializeContext, TEEC_FinalizeContext, TEEC_RegisterSharedMemory,
 *   TEEC_AllocateSharedMemory, TEEC_ReleaseSharedMemory, TEEC_OpenSession,
 *   TEEC_CloseSession, TEEC_InvokeCommand, TEEC_RequestCancellation
 *
 * SYNOPSIS
 *   #include <tee_client_api.h>
 *   cc program.c $(pkg-config --cflags --libs tegata-teec)
 *
 * DESCRIPTION
 *   What a program in the ordinary world calls to use a Trusted Application (TA) in the TEE.
 *   Programs written for another library with this API compile unchanged. Members named `imp`
 *   belong to the library; programs neither read nor write them.
 *
 * MEMORY
 *   Nothing is shared with the TEE: what a TA reads is copied when a call begins, what it wrote is
 *   copied back when the call returns. A program that follows the standard sees no difference. One
 *   call carries TEEC_CONFIG_SHAREDMEM_MAX_SIZE bytes in all its references together, in and out;
 *   more is TEEC_ERROR_EXCESS_DATA. A block may be larger and be used part by part.
 *   Bytes of an output beyond what the TA wrote, and outputs of a call that the TA did not see,
 *   stay as they were.
 *
 * THREADS
 *   All functions may be called by any thread at any time. Calls on one session take turns. A
 *   structure must not be used by one thread while another initializes or ends it.
 *
 * FORK
 *   In the child of a fork a context still works, and a session of the parent does not: a call on
 *   it is TEEC_ERROR_BAD_STATE and TEEC_CloseSession only forgets it. The parent's session stays
 *   open in the TEE until the parent closes it, or until both have ended or called exec.
 *   So daemonize first, open sessions then.
 *
 * SIGNALS
 *   None is raised, none is handled, none ends a call.
 *
 * ENVIRONMENT
 *   TEGATA_TEED_SOCKET   The socket of the TEE, where a context is initialized without a name.
 *                        Ignored in set-user-ID programs.
 *
 * FILES
 *   /run/tegata/teed.sock   The same if the variable is not set.
 *
 * SEE ALSO
 *   docs/ops/teec.md; GlobalPlatform TEE Client API Specification 1.0 (GPD_SPE_007).
 */
#ifndef TEE_CLIENT_API_H
#define TEE_CLIENT_API_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Limits ------------------------------------------------------------------------------- */

/* Parameters of an operation. */
#define TEEC_CONFIG_PAYLOAD_REF_COUNT 4

/* Bytes that the memory references of one call carry together. */
#define TEEC_CONFIG_SHAREDMEM_MAX_SIZE 0x80000

/* ---- Parameter types: four bits each, in TEEC_Operation.paramTypes -------------------------- */

#define TEEC_NONE                  0x00000000 /* not used */
#define TEEC_VALUE_INPUT           0x00000001 /* value: the TA reads it */
#define TEEC_VALUE_OUTPUT          0x00000002 /* value: the TA writes it */
#define TEEC_VALUE_INOUT           0x00000003 /* value: both */
#define TEEC_MEMREF_TEMP_INPUT     0x00000005 /* tmpref: any memory, for this call */
#define TEEC_MEMREF_TEMP_OUTPUT    0x00000006
#define TEEC_MEMREF_TEMP_INOUT     0x00000007
#define TEEC_MEMREF_WHOLE          0x0000000C /* memref: all of a block, directions as its flags */
#define TEEC_MEMREF_PARTIAL_INPUT  0x0000000D /* memref: a part of a block */
#define TEEC_MEMREF_PARTIAL_OUTPUT 0x0000000E
#define TEEC_MEMREF_PARTIAL_INOUT  0x0000000F

#define TEEC_PARAM_TYPES(p0, p1, p2, p3) ((p0) | ((p1) << 4) | ((p2) << 8) | ((p3) << 12))
#define TEEC_PARAM_TYPE_GET(types, index) (((types) >> ((index) * 4)) & 0xF)

/* ---- Directions of a block: TEEC_SharedMemory.flags ----------------------------------------- */

#define TEEC_MEM_INPUT  0x00000001 /* to the TA */
#define TEEC_MEM_OUTPUT 0x00000002 /* from the TA */

/* ---- Login: who the session belongs to ------------------------------------------------------ */
/*
 * The TEE takes the caller's user, groups and program from the kernel. The login only chooses by
 * which of them the TA knows the caller.
 */
#define TEEC_LOGIN_PUBLIC            0x00000000 /* by none; connectionData is NULL */
#define TEEC_LOGIN_USER              0x00000001 /* by the user; NULL */
#define TEEC_LOGIN_GROUP             0x00000002 /* by a group of the caller; uint32_t * */
#define TEEC_LOGIN_APPLICATION       0x00000004 /* by the digest of the program; NULL */
#define TEEC_LOGIN_USER_APPLICATION  0x00000005 /* by user and program; NULL */
#define TEEC_LOGIN_GROUP_APPLICATION 0x00000006 /* by group and program; uint32_t * */

/* ---- Return codes --------------------------------------------------------------------------- */

#define TEEC_SUCCESS               0x00000000
#define TEEC_ERROR_GENERIC         0xFFFF0000 /* no other code fits */
#define TEEC_ERROR_ACCESS_DENIED   0xFFFF0001
#define TEEC_ERROR_CANCEL          0xFFFF0002
#define TEEC_ERROR_ACCESS_CONFLICT 0xFFFF0003
#define TEEC_ERROR_EXCESS_DATA     0xFFFF0004 /* more than one call carries */
#define TEEC_ERROR_BAD_FORMAT      0xFFFF0005
#define TEEC_ERROR_BAD_PARAMETERS  0xFFFF0006
#define TEEC_ERROR_BAD_STATE       0xFFFF0007
#define TEEC_ERROR_ITEM_NOT_FOUND  0xFFFF0008 /* no such TEE, no such TA, no such object */
#define TEEC_ERROR_NOT_IMPLEMENTED 0xFFFF0009
#define TEEC_ERROR_NOT_SUPPORTED   0xFFFF000A
#define TEEC_ERROR_NO_DATA         0xFFFF000B
#define TEEC_ERROR_OUT_OF_MEMORY   0xFFFF000C
#define TEEC_ERROR_BUSY            0xFFFF000D /* a limit of the TEE is reached; try again */
#define TEEC_ERROR_COMMUNICATION   0xFFFF000E /* the TEE went away, or takes too long */
#define TEEC_ERROR_SECURITY        0xFFFF000F
#define TEEC_ERROR_SHORT_BUFFER    0xFFFF0010 /* the size field says how much is needed */
#define TEEC_ERROR_EXTERNAL_CANCEL 0xFFFF0011
#define TEEC_ERROR_TARGET_DEAD     0xFFFF3024 /* the TA panicked; open a new session */

/* Codes of the TEE Internal Core API that reach a client, under the names programs use. */
#define TEEC_ERROR_STORAGE_NOT_AVAILABLE 0xF0100003
#define TEEC_ERROR_STORAGE_NO_SPACE      0xFFFF3041
#define TEE_ERROR_EXTERNAL_CANCEL        0xFFFF0011
#define TEE_ERROR_OVERFLOW               0xFFFF300F
#define TEE_ERROR_TARGET_DEAD            0xFFFF3024
#define TEE_ERROR_STORAGE_NO_SPACE       0xFFFF3041
#define TEE_ERROR_MAC_INVALID            0xFFFF3071
#define TEE_ERROR_SIGNATURE_INVALID      0xFFFF3072
#define TEE_ERROR_TIME_NOT_SET           0xFFFF5000
#define TEE_ERROR_TIME_NEEDS_RESET       0xFFFF5001

/* ---- Who returned a code -------------------------------------------------------------------- */

#define TEEC_ORIGIN_API         0x00000001 /* this library */
#define TEEC_ORIGIN_COMMS       0x00000002 /* the way to the TEE */
#define TEEC_ORIGIN_TEE         0x00000003 /* the TEE */
#define TEEC_ORIGIN_TRUSTED_APP 0x00000004 /* the TA; always so for TEEC_SUCCESS */

/* ---- Types ---------------------------------------------------------------------------------- */

typedef uint32_t TEEC_Result;

/* A UUID (RFC 9562); the numbers in the machine's byte order. */
typedef struct {
    uint32_t timeLow;
    uint16_t timeMid;
    uint16_t timeHiAndVersion;
    uint8_t clockSeqAndNode[8];
} TEEC_UUID;

/* A TEE that the program uses. */
typedef struct {
    struct {
        uint32_t handle[2];
    } imp;
} TEEC_Context;

/* A session with a TA. */
typedef struct {
    struct {
        uint64_t handle;
        uint64_t reserved;
    } imp;
} TEEC_Session;

/* A block of memory for calls. */
typedef struct {
    void *buffer;   /* TEEC_RegisterSharedMemory: in; TEEC_AllocateSharedMemory: out */
    size_t size;    /* in, bytes */
    uint32_t flags; /* in, TEEC_MEM_* */
    struct {
        uint64_t handle;
        uint64_t reserved[3];
    } imp;
} TEEC_SharedMemory;

/* Memory for one call. buffer may be NULL: a null reference, for example to ask for a size. */
typedef struct {
    void *buffer;
    size_t size; /* in: bytes; out, for outputs: bytes written, or needed */
} TEEC_TempMemoryReference;

/* A block, or a part of it, for one call. */
typedef struct {
    TEEC_SharedMemory *parent;
    size_t size;   /* in, not for WHOLE: bytes; out, for outputs: bytes written, or needed */
    size_t offset; /* in, not for WHOLE: bytes from the start of the block */
} TEEC_RegisteredMemoryReference;

/* Two numbers. */
typedef struct {
    uint32_t a;
    uint32_t b;
} TEEC_Value;

/* One parameter; its type says which member counts. */
typedef union {
    TEEC_TempMemoryReference tmpref;
    TEEC_RegisteredMemoryReference memref;
    TEEC_Value value;
} TEEC_Parameter;

/*
 * Parameters of a call. `started` must be 0 before each call that another thread may cancel, and
 * before any other thread cancels it.
 */
typedef struct {
    uint32_t started;
    uint32_t paramTypes; /* TEEC_PARAM_TYPES */
    TEEC_Parameter params[TEEC_CONFIG_PAYLOAD_REF_COUNT];
    struct {
        uint64_t reserved;
    } imp;
} TEEC_Operation;

/* ---- Functions ------------------------------------------------------------------------------ */

/*
 * Contacts a TEE. name: NULL for the one of this machine, or the path of its socket.
 * TEEC_ERROR_ITEM_NOT_FOUND: there is no such TEE, or it is not running.
 */
TEEC_Result TEEC_InitializeContext(const char *name, TEEC_Context *context);

/*
 * Ends the use of a TEE. Sessions that are still open are closed. Blocks stay usable until they
 * are released, but not in calls. NULL is ignored.
 */
void TEEC_FinalizeContext(TEEC_Context *context);

/*
 * Makes the program's own memory a block: buffer, size and flags are set by the caller. Buffer and
 * flags must not change until the block is released.
 */
TEEC_Result TEEC_RegisterSharedMemory(TEEC_Context *context, TEEC_SharedMemory *sharedMem);

/* Makes a block of new memory, zeroed; size and flags are set by the caller. */
TEEC_Result TEEC_AllocateSharedMemory(TEEC_Context *context, TEEC_SharedMemory *sharedMem);

/* Ends a block; memory of TEEC_AllocateSharedMemory is freed, buffer becomes NULL. */
void TEEC_ReleaseSharedMemory(TEEC_SharedMemory *sharedMem);

/*
 * Opens a session. operation and returnOrigin may be NULL.
 * TEEC_ERROR_ITEM_NOT_FOUND from the TEE: the TA is not installed. TEEC_ERROR_ACCESS_DENIED from
 * the TEE: the caller is not in that group. Codes from the TA are the TA's own.
 */
TEEC_Result TEEC_OpenSession(TEEC_Context *context, TEEC_Session *session,
                             const TEEC_UUID *destination, uint32_t connectionMethod,
                             const void *connectionData, TEEC_Operation *operation,
                             uint32_t *returnOrigin);

/* Closes a session. NULL is ignored. */
void TEEC_CloseSession(TEEC_Session *session);

/* Makes one call. operation and returnOrigin may be NULL. */
TEEC_Result TEEC_InvokeCommand(TEEC_Session *session, uint32_t commandID,
                               TEEC_Operation *operation, uint32_t *returnOrigin);

/*
 * Asks that a call be cancelled: before it, while it runs, or after it (which does nothing).
 * The call returns in any case: TEEC_ERROR_CANCEL if it never reached the TA, what the TA chose if
 * it did. A TA may not heed it. NULL is ignored.
 */
void TEEC_RequestCancellation(TEEC_Operation *operation);

#ifdef __cplusplus
}
#endif

#endif /* TEE_CLIENT_API_H */

/*
 * A PKCS#11 client of its own, with p11-kit's header: what the programs do not try.
 *
 *   p11check MODULE rules LABEL           return values, buffers, handles, sessions
 *   p11check MODULE fork LABEL            a child, with and without C_Initialize
 *   p11check MODULE threads LABEL N MS    N threads sign, each in a session of its own
 *   p11check MODULE hold LABEL            signs and reads at each line of the standard input
 *   p11check MODULE bench LABEL MS [PIN]  signatures per second
 *   p11check MODULE hang LABEL            opens a session, signs once, waits to be killed
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static CK_FUNCTION_LIST *p11;
static CK_SLOT_ID slot;
static const char *label;
static int bad;

#define ok(call)                                                                                   \
    do {                                                                                           \
        CK_RV rv_ = (call);                                                                        \
        if (rv_ != CKR_OK) {                                                                       \
            fprintf(stderr, "%d: %s: 0x%lx\n", __LINE__, #call, rv_);                              \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define want(expected, call)                                                                       \
    do {                                                                                           \
        CK_RV rv_ = (call);                                                                        \
        if (rv_ != (expected)) {                                                                   \
            printf("%d: %s: 0x%lx, not %s\n", __LINE__, #call, rv_, #expected);                    \
            bad++;                                                                                 \
        }                                                                                          \
    } while (0)

#define that(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%d: not so: %s\n", __LINE__, #condition);                                      \
            bad++;                                                                                 \
        }                                                                                          \
    } while (0)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void first_slot(void)
{
    CK_SLOT_ID slots[16];
    CK_ULONG n = 16;
    ok(p11->C_GetSlotList(CK_TRUE, slots, &n));
    if (n == 0) {
        fprintf(stderr, "no token\n");
        exit(1);
    }
    slot = slots[0];
}

static CK_SESSION_HANDLE open_session(void)
{
    CK_SESSION_HANDLE s;
    ok(p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &s));
    return s;
}

static CK_OBJECT_HANDLE find(CK_SESSION_HANDLE s, CK_OBJECT_CLASS class, const char *name)
{
    CK_ATTRIBUTE t[2] = {{CKA_CLASS, &class, sizeof class},
                         {CKA_LABEL, (void *)name, strlen(name)}};
    CK_OBJECT_HANDLE found[2];
    CK_ULONG n = 0;
    ok(p11->C_FindObjectsInit(s, t, 2));
    ok(p11->C_FindObjects(s, found, 2, &n));
    ok(p11->C_FindObjectsFinal(s));
    return n == 1 ? found[0] : CK_INVALID_HANDLE;
}

static CK_MECHANISM ecdsa = {CKM_ECDSA, NULL, 0};
static CK_BYTE digest[32] = {1, 2, 3};

static CK_RV sign_with(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *len)
{
    CK_RV rv = p11->C_SignInit(s, &ecdsa, key);
    return rv == CKR_OK ? p11->C_Sign(s, digest, sizeof digest, out, len) : rv;
}

static CK_RV verify_with(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key, CK_BYTE *sig, CK_ULONG len)
{
    CK_RV rv = p11->C_VerifyInit(s, &ecdsa, key);
    return rv == CKR_OK ? p11->C_Verify(s, digest, sizeof digest, sig, len) : rv;
}

static void rules(void)
{
    CK_BYTE buf[4096], sig[256];
    CK_ULONG n, len;
    CK_SESSION_HANDLE s, other;
    CK_C_INITIALIZE_ARGS args = {0};
    CK_SLOT_INFO slot_info;
    CK_TOKEN_INFO token;
    CK_SESSION_INFO session;
    CK_MECHANISM_INFO mech;

    want(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetSlotList(CK_FALSE, NULL, &n));
    want(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_CloseSession(1));
    want(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_Encrypt(1, buf, 1, buf, &n));
    want(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_Finalize(NULL));
    args.pReserved = &args;
    want(CKR_ARGUMENTS_BAD, p11->C_Initialize(&args));
    args.pReserved = NULL;
    args.flags = CKF_OS_LOCKING_OK;
    ok(p11->C_Initialize(&args));
    want(CKR_CRYPTOKI_ALREADY_INITIALIZED, p11->C_Initialize(NULL));
    want(CKR_ARGUMENTS_BAD, p11->C_Finalize(buf));
    want(CKR_ARGUMENTS_BAD, p11->C_GetInfo(NULL));
    first_slot();
    want(CKR_ARGUMENTS_BAD, p11->C_GetSlotList(CK_TRUE, NULL, NULL));
    n = 0;
    want(CKR_BUFFER_TOO_SMALL, p11->C_GetSlotList(CK_TRUE, (CK_SLOT_ID *)buf, &n));
    that(n >= 1);
    want(CKR_SLOT_ID_INVALID, p11->C_GetSlotInfo(99, &slot_info));
    ok(p11->C_GetSlotInfo(slot, &slot_info));
    that(slot_info.flags & CKF_TOKEN_PRESENT);
    want(CKR_SLOT_ID_INVALID, p11->C_GetTokenInfo(99, &token));
    ok(p11->C_GetTokenInfo(slot, &token));
    that(!(token.flags & CKF_LOGIN_REQUIRED));
    that(token.flags & CKF_PROTECTED_AUTHENTICATION_PATH);
    want(CKR_MECHANISM_INVALID, p11->C_GetMechanismInfo(slot, CKM_RSA_PKCS, &mech));
    ok(p11->C_GetMechanismInfo(slot, CKM_ECDSA, &mech));
    that(mech.flags & CKF_SIGN);
    want(CKR_SLOT_ID_INVALID, p11->C_OpenSession(99, CKF_SERIAL_SESSION, NULL, NULL, &s));
    want(CKR_SESSION_PARALLEL_NOT_SUPPORTED, p11->C_OpenSession(slot, 0, NULL, NULL, &s));
    want(CKR_ARGUMENTS_BAD, p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, NULL));
    want(CKR_NO_EVENT, p11->C_WaitForSlotEvent(CKF_DONT_BLOCK, &slot, NULL));
    s = open_session();
    ok(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &other));

    /* Login is taken and changes nothing. */
    want(CKR_USER_NOT_LOGGED_IN, p11->C_Logout(s));
    want(CKR_USER_TYPE_INVALID, p11->C_Login(s, CKU_SO, (CK_BYTE *)"x", 1));
    ok(p11->C_Login(s, CKU_USER, NULL, 0));
    want(CKR_USER_ALREADY_LOGGED_IN, p11->C_Login(other, CKU_USER, (CK_BYTE *)"1234", 4));
    ok(p11->C_GetSessionInfo(other, &session));
    that(session.state == CKS_RW_USER_FUNCTIONS);
    ok(p11->C_Logout(s));
    ok(p11->C_GetSessionInfo(s, &session));
    that(session.state == CKS_RO_PUBLIC_SESSION);

    /* Objects. */
    CK_OBJECT_HANDLE private = find(s, CKO_PRIVATE_KEY, label);
    CK_OBJECT_HANDLE public = find(s, CKO_PUBLIC_KEY, label);
    CK_OBJECT_HANDLE cert = find(s, CKO_CERTIFICATE, label);
    that(private && public && cert);
    that(private == find(other, CKO_PRIVATE_KEY, label)); /* the same handle again */
    that(find(s, CKO_PRIVATE_KEY, "no such label") == CK_INVALID_HANDLE);
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_FindObjects(s, &cert, 1, &n));
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_FindObjectsFinal(s));
    ok(p11->C_FindObjectsInit(s, NULL, 0));
    want(CKR_OPERATION_ACTIVE, p11->C_FindObjectsInit(s, NULL, 0));
    ok(p11->C_FindObjectsFinal(s));
    want(CKR_ARGUMENTS_BAD, p11->C_FindObjectsInit(s, NULL, 1));

    CK_BBOOL yes = 0, extractable = 1;
    CK_ATTRIBUTE a[] = {
        {CKA_SENSITIVE, &yes, 1},       {CKA_EXTRACTABLE, &extractable, 1},
        {CKA_VALUE, buf, sizeof buf},   {CKA_LABEL, NULL, 0},
        {CKA_ID, buf, 1},               {CKA_MODULUS, buf, sizeof buf},
        {CKA_LABEL, buf, sizeof buf},
    };
    CK_RV rv = p11->C_GetAttributeValue(s, private, a, 7);
    that(rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_ATTRIBUTE_TYPE_INVALID ||
         rv == CKR_BUFFER_TOO_SMALL);
    that(yes == CK_TRUE && extractable == CK_FALSE);
    that(a[2].ulValueLen == CK_UNAVAILABLE_INFORMATION); /* the private value */
    that(a[3].ulValueLen == strlen(label));              /* asked for its length */
    that(a[4].ulValueLen == CK_UNAVAILABLE_INFORMATION); /* too small */
    that(a[5].ulValueLen == CK_UNAVAILABLE_INFORMATION); /* not of this object */
    that(a[6].ulValueLen == strlen(label) && !memcmp(buf, label, strlen(label)));
    CK_ATTRIBUTE one = {CKA_VALUE, buf, sizeof buf};
    want(CKR_ATTRIBUTE_SENSITIVE, p11->C_GetAttributeValue(s, private, &one, 1));
    one.type = CKA_MODULUS;
    want(CKR_ATTRIBUTE_TYPE_INVALID, p11->C_GetAttributeValue(s, private, &one, 1));
    one = (CK_ATTRIBUTE){CKA_VALUE, buf, 3};
    want(CKR_BUFFER_TOO_SMALL, p11->C_GetAttributeValue(s, cert, &one, 1));
    want(CKR_OBJECT_HANDLE_INVALID, p11->C_GetAttributeValue(s, 999999, &one, 1));
    want(CKR_SESSION_HANDLE_INVALID, p11->C_GetAttributeValue(999999, cert, &one, 1));
    want(CKR_ARGUMENTS_BAD, p11->C_GetAttributeValue(s, cert, NULL, 1));
    want(CKR_ACTION_PROHIBITED, p11->C_SetAttributeValue(s, cert, &one, 1));
    want(CKR_ACTION_PROHIBITED, p11->C_DestroyObject(other, private));
    want(CKR_OBJECT_HANDLE_INVALID, p11->C_DestroyObject(other, 999999));

    /* Signatures. */
    CK_MECHANISM rsa = {CKM_RSA_PKCS, NULL, 0}, params = {CKM_ECDSA, buf, 5};
    CK_MECHANISM sha = {CKM_ECDSA_SHA256, NULL, 0}, sha256 = {CKM_SHA256, NULL, 0};
    want(CKR_MECHANISM_INVALID, p11->C_SignInit(s, &rsa, private));
    want(CKR_MECHANISM_INVALID, p11->C_SignInit(s, &sha256, private));
    want(CKR_MECHANISM_PARAM_INVALID, p11->C_SignInit(s, &params, private));
    want(CKR_KEY_HANDLE_INVALID, p11->C_SignInit(s, &ecdsa, 999999));
    want(CKR_KEY_HANDLE_INVALID, p11->C_SignInit(s, &ecdsa, cert));
    want(CKR_KEY_FUNCTION_NOT_PERMITTED, p11->C_SignInit(s, &ecdsa, public));
    len = sizeof sig;
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_Sign(s, digest, 32, sig, &len));
    ok(p11->C_SignInit(s, &ecdsa, private));
    want(CKR_OPERATION_ACTIVE, p11->C_SignInit(s, &ecdsa, private));
    ok(p11->C_Sign(s, digest, 32, NULL, &len)); /* asks for the length; goes on */
    that(len == 64);
    len = 10;
    want(CKR_BUFFER_TOO_SMALL, p11->C_Sign(s, digest, 32, sig, &len));
    that(len == 64);
    ok(p11->C_Sign(s, digest, 32, sig, &len));
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_Sign(s, digest, 32, sig, &len));
    ok(verify_with(s, public, sig, len));
    sig[5] ^= 1;
    want(CKR_SIGNATURE_INVALID, verify_with(s, public, sig, len));
    want(CKR_SIGNATURE_LEN_RANGE, verify_with(s, public, sig, 63));
    ok(p11->C_SignInit(s, &ecdsa, private));
    ok(p11->C_SignInit(s, NULL, 0)); /* version 3: ends it */
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_Sign(s, digest, 32, sig, &len));
    /* So does every error but a buffer that is too small. */
    ok(p11->C_SignInit(s, &ecdsa, private));
    want(CKR_ARGUMENTS_BAD, p11->C_Sign(s, NULL, 32, sig, &len));
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_Sign(s, digest, 32, sig, &len));
    ok(p11->C_SignInit(s, &ecdsa, private));
    want(CKR_ARGUMENTS_BAD, p11->C_Sign(s, digest, 32, sig, NULL));
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_Sign(s, digest, 32, sig, &len));
    ok(p11->C_SignInit(s, &sha, private));
    want(CKR_ARGUMENTS_BAD, p11->C_SignUpdate(s, NULL, 1));
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_SignFinal(s, sig, &len));
    ok(p11->C_VerifyInit(s, &ecdsa, public));
    want(CKR_ARGUMENTS_BAD, p11->C_Verify(s, digest, 32, NULL, 64));
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_Verify(s, digest, 32, sig, 64));
    ok(p11->C_VerifyInit(s, &sha, public));
    want(CKR_ARGUMENTS_BAD, p11->C_VerifyUpdate(s, NULL, 1));
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_VerifyFinal(s, sig, 64));
    ok(p11->C_VerifyInit(s, &sha, public));
    want(CKR_ARGUMENTS_BAD, p11->C_VerifyFinal(s, NULL, 64));
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_VerifyFinal(s, sig, 64));
    ok(p11->C_DigestInit(s, &sha256));
    want(CKR_ARGUMENTS_BAD, p11->C_DigestUpdate(s, NULL, 1));
    n = sizeof buf;
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_DigestFinal(s, buf, &n));
    ok(p11->C_DigestInit(s, &sha256));
    want(CKR_ARGUMENTS_BAD, p11->C_Digest(s, buf, 1, buf, NULL));
    want(CKR_OPERATION_NOT_INITIALIZED, p11->C_DigestFinal(s, buf, &n));
    len = sizeof sig;
    ok(p11->C_SignInit(s, &ecdsa, private));
    want(CKR_DATA_LEN_RANGE, p11->C_Sign(s, buf, 2000, sig, &len));
    /* In parts, and at once: the same message. */
    ok(p11->C_SignInit(s, &sha, private));
    ok(p11->C_SignUpdate(s, (CK_BYTE *)"hel", 3));
    ok(p11->C_SignUpdate(s, (CK_BYTE *)"lo", 2));
    len = sizeof sig;
    ok(p11->C_SignFinal(s, sig, &len));
    ok(p11->C_VerifyInit(s, &sha, public));
    ok(p11->C_Verify(s, (CK_BYTE *)"hello", 5, sig, len));
    ok(p11->C_DigestInit(s, &sha256));
    want(CKR_STATE_UNSAVEABLE, p11->C_GetOperationState(s, NULL, &n));
    n = 1;
    want(CKR_BUFFER_TOO_SMALL, p11->C_Digest(s, buf, 1, buf, &n));
    n = sizeof buf;
    ok(p11->C_Digest(s, (CK_BYTE *)"hello", 5, buf, &n));
    that(n == 32 && buf[0] == 0x2c && buf[31] == 0x24);

    /* Key agreement: what is wrong is said. The right thing is pkcs11-tool's to try. */
    CK_ECDH1_DERIVE_PARAMS ecdh = {CKD_NULL, 0, NULL, 65, buf};
    CK_MECHANISM derive = {CKM_ECDH1_DERIVE, &ecdh, sizeof ecdh};
    CK_OBJECT_HANDLE secret;
    memset(buf, 7, 65);
    want(CKR_MECHANISM_PARAM_INVALID, p11->C_DeriveKey(s, &derive, private, NULL, 0, &secret));
    buf[0] = 4; /* looks like a point and is none */
    want(CKR_MECHANISM_PARAM_INVALID, p11->C_DeriveKey(s, &derive, private, NULL, 0, &secret));
    ecdh.kdf = 99;
    want(CKR_MECHANISM_PARAM_INVALID, p11->C_DeriveKey(s, &derive, private, NULL, 0, &secret));
    want(CKR_KEY_TYPE_INCONSISTENT, p11->C_DeriveKey(s, &derive, public, NULL, 0, &secret));

    ok(p11->C_GenerateRandom(s, buf, 1000));
    want(CKR_RANDOM_SEED_NOT_SUPPORTED, p11->C_SeedRandom(s, buf, 4));
    want(CKR_FUNCTION_NOT_PARALLEL, p11->C_GetFunctionStatus(s));
    want(CKR_FUNCTION_NOT_SUPPORTED, p11->C_EncryptInit(s, &ecdsa, private));
    want(CKR_SESSION_HANDLE_INVALID, p11->C_EncryptInit(999999, &ecdsa, private));

    ok(p11->C_CloseSession(other));
    want(CKR_SESSION_HANDLE_INVALID, p11->C_CloseSession(other));
    ok(p11->C_CloseAllSessions(slot));
    want(CKR_SESSION_HANDLE_INVALID, p11->C_Sign(s, digest, 32, sig, &len));
    ok(p11->C_Finalize(NULL));
    want(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetInfo((CK_INFO *)buf));
    ok(p11->C_Initialize(NULL)); /* and again */
    ok(p11->C_Finalize(NULL));
}

static void forks(void)
{
    CK_BYTE sig[64];
    CK_ULONG len = sizeof sig;
    ok(p11->C_Initialize(NULL));
    first_slot();
    CK_SESSION_HANDLE s = open_session();
    CK_OBJECT_HANDLE key = find(s, CKO_PRIVATE_KEY, label);
    ok(sign_with(s, key, sig, &len));
    pid_t child = fork();
    if (child == 0) {
        want(CKR_CRYPTOKI_NOT_INITIALIZED, sign_with(s, key, sig, &len));
        want(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_Finalize(NULL));
        ok(p11->C_Initialize(NULL));
        want(CKR_SESSION_HANDLE_INVALID, sign_with(s, key, sig, &len));
        first_slot();
        CK_SESSION_HANDLE own = open_session();
        len = sizeof sig;
        ok(sign_with(own, find(own, CKO_PRIVATE_KEY, label), sig, &len));
        ok(p11->C_Finalize(NULL));
        fflush(stdout);
        _exit(bad);
    }
    /* A child that closes what it inherited: the numbers are its own files when it initialises. */
    pid_t daemon = fork();
    if (daemon == 0) {
        int last = dup(0);
        for (int fd = 3; fd <= last; fd++)
            close(fd);
        while (open("/dev/null", O_RDONLY) < last)
            ;
        ok(p11->C_Initialize(NULL));
        for (int fd = 3; fd <= last; fd++)
            that(fcntl(fd, F_GETFD) != -1);
        ok(p11->C_Finalize(NULL));
        fflush(stdout);
        _exit(bad);
    }
    int status = 0;
    waitpid(daemon, &status, 0);
    that(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (int i = 0; i < 20; i++) { /* the parent goes on meanwhile */
        len = sizeof sig;
        ok(sign_with(s, key, sig, &len));
    }
    waitpid(child, &status, 0);
    that(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    len = sizeof sig;
    ok(sign_with(s, key, sig, &len));
    ok(p11->C_Finalize(NULL));
}

static double deadline;
static void *signer(void *count)
{
    CK_SESSION_HANDLE s = open_session();
    CK_OBJECT_HANDLE private = find(s, CKO_PRIVATE_KEY, label);
    CK_OBJECT_HANDLE public = find(s, CKO_PUBLIC_KEY, label);
    do {
        CK_BYTE sig[64];
        CK_ULONG len = sizeof sig;
        ok(sign_with(s, private, sig, &len));
        ok(verify_with(s, public, sig, len));
        ++*(long *)count;
    } while (now() < deadline);
    ok(p11->C_CloseSession(s));
    return NULL;
}

static void threads(int n, double ms)
{
    pthread_t ids[64];
    long counts[64] = {0}, sum = 0;
    ok(p11->C_Initialize(NULL));
    first_slot();
    deadline = now() + ms / 1e3;
    for (int i = 0; i < n && i < 64; i++)
        pthread_create(&ids[i], NULL, signer, &counts[i]);
    for (int i = 0; i < n && i < 64; i++) {
        pthread_join(ids[i], NULL);
        that(counts[i] > 0);
        sum += counts[i];
    }
    ok(p11->C_Finalize(NULL));
    printf("%d threads, %ld signatures, each verified\n", n, sum);
}

/* At each line: what an old handle and a new search say. */
static void hold(void)
{
    char line[64];
    CK_BYTE sig[64];
    ok(p11->C_Initialize(NULL));
    first_slot();
    CK_SESSION_HANDLE s = open_session();
    CK_OBJECT_HANDLE old = find(s, CKO_PRIVATE_KEY, label);
    CK_OBJECT_HANDLE old_cert = find(s, CKO_CERTIFICATE, label);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        CK_ULONG len = sizeof sig;
        CK_RV with_old = sign_with(s, old, sig, &len);
        CK_OBJECT_HANDLE key = find(s, CKO_PRIVATE_KEY, label);
        CK_OBJECT_HANDLE public = find(s, CKO_PUBLIC_KEY, label);
        CK_OBJECT_HANDLE cert = find(s, CKO_CERTIFICATE, label);
        len = sizeof sig;
        CK_RV with_new = sign_with(s, key, sig, &len);
        CK_RV verified = verify_with(s, public, sig, len);
        CK_BYTE serial[64];
        CK_ATTRIBUTE a = {CKA_SERIAL_NUMBER, serial, sizeof serial};
        ok(p11->C_GetAttributeValue(s, cert, &a, 1));
        printf("key=%s cert=%s old=0x%lx new=0x%lx verify=0x%lx serial=", key == old ? "same" : "new",
               cert == old_cert ? "same" : "new", with_old, with_new, verified);
        for (CK_ULONG i = 2; i < a.ulValueLen; i++)
            printf("%02X", serial[i]);
        puts("");
        fflush(stdout);
    }
    ok(p11->C_Finalize(NULL));
}

static int by_size(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;
    return d < 0 ? -1 : d > 0;
}

static void bench(double ms, const char *pin)
{
    enum { MOST = 1000000 };
    double *took = malloc(MOST * sizeof *took);
    CK_BYTE sig[256];
    int n = 0;
    ok(p11->C_Initialize(NULL));
    first_slot();
    CK_SESSION_HANDLE s = open_session();
    if (pin)
        ok(p11->C_Login(s, CKU_USER, (CK_BYTE *)pin, strlen(pin)));
    CK_OBJECT_HANDLE key = find(s, CKO_PRIVATE_KEY, label);
    CK_ULONG len = sizeof sig;
    ok(sign_with(s, key, sig, &len)); /* not counted: the first one starts what must be started */
    double start = now(), last = start;
    while (n < MOST && last - start < ms / 1e3) {
        len = sizeof sig;
        ok(sign_with(s, key, sig, &len));
        double t = now();
        took[n++] = t - last;
        last = t;
    }
    qsort(took, n, sizeof *took, by_size);
    printf("%.0f signatures/s, median %.0f us, 99%% %.0f us, %d in %.1f s\n", n / (last - start),
           took[n / 2] * 1e6, took[n * 99 / 100] * 1e6, n, last - start);
    ok(p11->C_Finalize(NULL));
    free(took);
}

static void hang(void)
{
    CK_BYTE sig[64];
    CK_ULONG len = sizeof sig;
    ok(p11->C_Initialize(NULL));
    first_slot();
    CK_SESSION_HANDLE s = open_session();
    ok(sign_with(s, find(s, CKO_PRIVATE_KEY, label), sig, &len));
    puts("signed");
    fflush(stdout);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    void *module = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    CK_RV (*list)(CK_FUNCTION_LIST **) = dlsym(module, "C_GetFunctionList");
    ok(list(&p11));
    label = argv[3];
    if (!strcmp(argv[2], "rules"))
        rules();
    else if (!strcmp(argv[2], "fork"))
        forks();
    else if (!strcmp(argv[2], "threads") && argc > 5)
        threads(atoi(argv[4]), atof(argv[5]));
    else if (!strcmp(argv[2], "hold"))
        hold();
    else if (!strcmp(argv[2], "bench") && argc > 4)
        bench(atof(argv[4]), argc > 5 ? argv[5] : NULL);
    else if (!strcmp(argv[2], "hang"))
        hang();
    else
        return 2;
    if (bad)
        printf("%d wrong\n", bad);
    dlclose(module);
    return bad ? 1 : 0;
}

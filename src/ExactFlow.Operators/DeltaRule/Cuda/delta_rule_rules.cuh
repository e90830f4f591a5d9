// The rules of the family: what step size, squared key length and log decay of a token become, and the partial derivatives. Float32 throughout.

// In the order of the host's table.
enum Rule { EFLA = 0, DELTANET = 1, IMPLICIT_EULER = 2, CAYLEY = 3, RK2 = 4, RK4 = 5, EXPLICIT_EULER = 6, LINEAR = 7, MAMBA2 = 8, GATED_DELTANET = 9, GATED_EFLA = 10, LOG_RATE = 11,
            CLIPPED_EULER = 12, UNIT_KEY_FLOW = 13, UNIT_KEY_FLOW_SCALED_VALUE = 14 };

// Scalars of one token in normalised form.
struct Scalars { float en, wn, logg, inv; };

// phi1(x) = (1 - e^-x) / x and its slope, for x >= 0: series where the closed form would cancel, good to float32 everywhere.
__device__ __forceinline__ float phi1(float x) { return x < 1e-4f ? 1.f - 0.5f * x : -expm1f(-x) / x; }
__device__ __forceinline__ float phi1d(float x)
{
    if (x >= 0.5f) return (expf(-x) - phi1(x)) / x;
    return -0.5f + x * (0.33333333f + x * (-0.125f + x * (0.033333333f + x * (-6.9444444e-3f + x * (1.1904762e-3f + x * (-1.7361111e-4f + x * 2.2045855e-5f))))));
}

__device__ __forceinline__ Scalars coefficients(int rule, float lambda, float beta, float logdecay)
{
    Scalars s;
    lambda = fmaxf(lambda, 1e-24f);
    float norm = sqrtf(lambda);
    s.inv = 1.f / norm;
    s.logg = 0.f;
    float x = beta * lambda, e = beta, w = beta;
    switch (rule)
    {
        case EFLA: e = w = beta * phi1(x); break;
        case DELTANET:
        case GATED_DELTANET:
        {
            float unit2 = lambda / (lambda + 1e-6f);
            s.en = beta * unit2;
            s.wn = beta * sqrtf(unit2);
            s.logg = rule == GATED_DELTANET ? logdecay : 0.f;
            return s;
        }
        case IMPLICIT_EULER: e = w = beta / (1.f + x); break;
        case CAYLEY: e = w = beta / (1.f + 0.5f * x); break;
        case RK2: e = w = beta * (1.f - 0.5f * x); break;
        case RK4: e = w = beta * (1.f - 0.5f * x + x * x * (1.f / 6.f) - x * x * x * (1.f / 24.f)); break;
        case UNIT_KEY_FLOW:
        case UNIT_KEY_FLOW_SCALED_VALUE:
        {
            float step = -expm1f(-beta), square = lambda + 1e-6f, unit2 = lambda / square;
            s.en = step * unit2;
            s.wn = step * (rule == UNIT_KEY_FLOW ? sqrtf(unit2) : norm / square);
            return s;
        }
        case CLIPPED_EULER: e = w = x <= 2.f ? beta : 2.f / lambda; break;
        case LINEAR: e = 0.f; w = 1.f; break;
        case MAMBA2: e = 0.f; s.logg = logdecay; break;
        case GATED_EFLA:
        {
            float alpha = expf(logdecay), d = -expm1f(logdecay), r = alpha * beta;
            s.logg = -d;
            e = r * phi1(r * lambda);
            w = beta * phi1(d + r * lambda);
            break;
        }
        case LOG_RATE: s.logg = logdecay; e = beta * phi1(x); w = beta * phi1(x - logdecay); break;
        default: break;
    }
    s.en = e * lambda;
    s.wn = w * norm;
    return s;
}

// Partial derivatives of the normalised coefficients en = e lambda, wn = w |k| and of log g.
// With phi1(x) + x phi1'(x) = e^-x, what would cancel for long keys is left out: d(beta phi1(d + r lambda))/dbeta = e^-eta - d phi1'(eta).
struct Derivatives { float en_beta, en_lambda, en_ld, wn_beta, wn_lambda, wn_ld, logg_ld; };
__device__ __forceinline__ Derivatives derivatives(int rule, float lambda, float beta, float ld)
{
    Derivatives d = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
    float norm = sqrtf(lambda), x = beta * lambda, a = beta, ab = 1.f, al = 0.f;
    switch (rule)
    {
        case EFLA:
        {
            float ex = expf(-x);
            d.en_beta = lambda * ex; d.en_lambda = beta * ex;
            d.wn_beta = norm * ex; d.wn_lambda = norm * beta * beta * phi1d(x) + beta * phi1(x) / (2.f * norm);
            return d;
        }
        case DELTANET:
        case GATED_DELTANET:
        {
            float u2 = lambda / (lambda + 1e-6f), du = 1e-6f / ((lambda + 1e-6f) * (lambda + 1e-6f)), u = sqrtf(u2);
            d.en_beta = u2; d.en_lambda = beta * du; d.wn_beta = u; d.wn_lambda = beta * du / (2.f * u);
            d.logg_ld = rule == GATED_DELTANET ? 1.f : 0.f;
            return d;
        }
        case UNIT_KEY_FLOW:
        case UNIT_KEY_FLOW_SCALED_VALUE:
        {
            float step = -expm1f(-beta), slope = expf(-beta), square = lambda + 1e-6f, u2 = lambda / square, du = 1e-6f / (square * square), u = sqrtf(u2);
            d.en_beta = slope * u2; d.en_lambda = step * du;
            d.wn_beta = slope * (rule == UNIT_KEY_FLOW ? u : norm / square);
            d.wn_lambda = step * (rule == UNIT_KEY_FLOW ? du / (2.f * u) : (0.5f / norm - norm / square) / square);
            return d;
        }
        case CLIPPED_EULER:
            if (x > 2.f) { d.wn_lambda = -1.f / (lambda * norm); return d; }
            break;
        case LINEAR: d.wn_lambda = 0.5f / norm; return d;
        case MAMBA2: d.wn_beta = norm; d.wn_lambda = beta * 0.5f / norm; d.logg_ld = 1.f; return d;
        case GATED_EFLA:
        {
            float alpha = expf(ld), dd = -expm1f(ld), r = alpha * beta, ex = expf(-r * lambda), eta = dd + r * lambda, p = phi1(eta), pd = phi1d(eta);
            d.en_beta = lambda * ex * alpha; d.en_lambda = r * ex; d.en_ld = lambda * ex * r;
            d.wn_beta = norm * (expf(-eta) - dd * pd); d.wn_lambda = norm * beta * pd * r + beta * p / (2.f * norm); d.wn_ld = norm * beta * pd * (r * lambda - alpha);
            d.logg_ld = alpha;
            return d;
        }
        case LOG_RATE:
        {
            float ex = expf(-x), y = x - ld, p = phi1(y), pd = phi1d(y);
            d.en_beta = lambda * ex; d.en_lambda = beta * ex;
            d.wn_beta = norm * (expf(-y) + ld * pd); d.wn_lambda = norm * beta * beta * pd + beta * p / (2.f * norm); d.wn_ld = -norm * beta * pd;
            d.logg_ld = 1.f;
            return d;
        }
        case IMPLICIT_EULER: a = beta / (1.f + x); ab = 1.f / ((1.f + x) * (1.f + x)); al = -beta * beta * ab; break;
        case CAYLEY: a = beta / (1.f + 0.5f * x); ab = 1.f / ((1.f + 0.5f * x) * (1.f + 0.5f * x)); al = -0.5f * beta * beta * ab; break;
        case RK2: a = beta * (1.f - 0.5f * x); ab = 1.f - x; al = -0.5f * beta * beta; break;
        case RK4: a = beta * (1.f - x * (0.5f - x * (1.f / 6.f - x * (1.f / 24.f)))); ab = 1.f - x * (1.f - x * (0.5f - x * (1.f / 6.f))); al = beta * beta * (-0.5f + x * (1.f / 3.f - x * 0.125f)); break;
        default: break;
    }
    d.en_beta = ab * lambda; d.en_lambda = a + al * lambda;
    d.wn_beta = ab * norm; d.wn_lambda = al * norm + a / (2.f * norm);
    return d;
}

template <class T>
void scaled_add(int64_t numel, T alpha, const T* x, const T* y, T* z, const ParallelFor& parallel_for) {
    constexpr int64_t grain = 32768;
    parallel_for(numel, grain, [=](int64_t begin, int64_t end) {
        // Every element takes the same path, wherever ranges are cut.
        constexpr int64_t lanes = kLanes<T>;
        int64_t i = begin;
        for (; i + lanes <= end; i += lanes) {
            Vector<T> vx, vy;
            load(x + i, vx);
            load(y + i, vy);
            store<T>(alpha * vx + vy, z + i);
        }
        if (i < end) {
            Vector<T> vx, vy;
            load_some(x + i, end - i, vx);
            load_some(y + i, end - i, vy);
            store_some<T>(alpha * vx + vy, end - i, z + i);
        }
    });
}

template <class T>
void scaled_add_backward(int64_t numel, T alpha, const T* grad, T* grad_x, T* grad_y,
                         const ParallelFor& parallel_for) {
    constexpr int64_t grain = 32768;
    parallel_for(numel, grain, [=](int64_t begin, int64_t end) {
        constexpr int64_t lanes = kLanes<T>;
        int64_t i = begin;
        for (; i + lanes <= end; i += lanes) {
            Vector<T> g;
            load(grad + i, g);
            store<T>(alpha * g, grad_x + i);
            store<T>(g, grad_y + i);
        }
        if (i < end) {
            Vector<T> g;
            load_some(grad + i, end - i, g);
            store_some<T>(alpha * g, end - i, grad_x + i);
            store_some<T>(g, end - i, grad_y + i);
        }
    });
}

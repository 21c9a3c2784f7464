#include "bf/train/trainer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "bf/kernels/cpu_simd.hpp"
#include "tiny_run.hpp"

namespace {

using bf::BroadFace;
using bf::BroadFaceOptions;
using bf::DType;
using bf::StateDict;
using bf::StepReport;
using bf::Tensor;
using bf::TrainBatch;
using bf::Var;

using namespace tiny_run;

StateDict copy_of(const StateDict& state) {
    StateDict all;
    for (const auto& [name, tensor] : state) all[name] = tensor.clone();
    return all;
}
bool same_bits(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}
void expect_same_bits(const StateDict& a, const StateDict& b) {
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [name, tensor] : a) {
        ASSERT_TRUE(b.count(name)) << name;
        EXPECT_TRUE(same_bits(tensor, b.at(name))) << name;
    }
}
void expect_same_report(const StepReport& a, const StepReport& b) {
    EXPECT_EQ(a.step, b.step);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.classifier_loss, b.classifier_loss);
    EXPECT_EQ(a.accuracy, b.accuracy);
    EXPECT_EQ(a.lr, b.lr);
}

// ---- ten recorded losses

TEST(RecordedLosses, BroadFaceOff) {
    const Losses off = ten_steps(0);
    expect_recorded(off, recorded_off);
    EXPECT_EQ(off.encoder, off.classifier);  // without a queue both are the mean over the batch
}

TEST(RecordedLosses, BroadFaceOn) { expect_recorded(ten_steps(20), recorded_on); }

// Products of the classifier in bf16 move the losses by less than a hundredth, and they do move them where the target
// has them.
TEST(RecordedLosses, ProductsInBf16StayNear) {
    const Losses rounded = ten_steps(20, bf::cpu_device, DType::bf16);
    expect_recorded(rounded, recorded_on, 1e-2);
    EXPECT_EQ(rounded.encoder == ten_steps(20).encoder, !bf::cpu::multiplies_pairs);
}

TEST(RecordedLosses, OnAndOffPartWhereTheQueueIsFirstUsed) {
    const Losses off = ten_steps(0), on = ten_steps(20);
    for (std::size_t i = 0; i < 10; ++i) {
        // the classifier's loss holds the queue at once, the encoder's feels it through the W that it moved
        EXPECT_EQ(on.classifier[i] == off.classifier[i], i < first_use) << i;
        EXPECT_EQ(on.encoder[i] == off.encoder[i], i <= first_use) << i;
    }
}

// ---- the step

TEST(Trainer, EqualsTheLoopWrittenByHandBitForBit) {
    Parts a, b;
    const BroadFaceOptions queue{.queue = 20};
    BroadFace in_trainer(queue, dim), by_hand(queue, dim);
    bf::Trainer trainer(*a.net, a.w, a.sgd, warm_up, in_trainer);
    const auto data = batches(5);
    for (std::uint64_t step = 0; step < 5; ++step) {
        const TrainBatch& batch = data[step];
        const StepReport report = one_step(trainer, batch);

        const Var e = (*b.net)(Var(batch.images));
        const auto loss =
            bf::margin_softmax(e, b.w, batch.labels, {.margin = margin, .memory = by_hand.memory(b.w.value(), step)});
        b.sgd.zero_grad();
        bf::backward(loss.loss);
        by_hand.push(e.value(), batch.labels, b.w.value(), step, batch.indices);
        b.sgd.step(warm_up.schedule(step));

        EXPECT_EQ(report.step, step + 1);
        EXPECT_EQ(report.loss, loss.loss.value().item());
        EXPECT_EQ(report.classifier_loss, loss.classifier_loss.item());
        EXPECT_EQ(report.accuracy, loss.correct.item() / batch_size);
        EXPECT_EQ(report.lr, warm_up.schedule(step));
        EXPECT_EQ(report.gradient_norm, 0);
        EXPECT_TRUE(same_bits(a.w.value(), b.w.value())) << step;
        expect_same_bits(a.net->state(), b.net->state());
        expect_same_bits(a.sgd.state(), b.sgd.state());
        expect_same_bits(in_trainer.save_state(), by_hand.save_state());
    }
}

/// Writes down the number of each forward pass, from which dropout draws its mask.
class Numbered : public bf::Module {
  public:
    std::vector<std::uint64_t> numbers;
    Var forward(const Var& x) override {
        numbers.push_back(step());
        return bf::gather_rows(weight_, Tensor::zeros({x.shape()[0]}, {.dtype = DType::i64}));
    }

  private:
    Var weight_ = add_parameter("weight", bf::Init(1).normal({1, dim}, 1));
};

TEST(Trainer, EachForwardPassHasItsOwnNumber) {
    Numbered net;
    const Var w = Var::leaf(bf::Init(5).normal({people, dim}, 0.1));
    bf::Sgd sgd({{.parameters = net.parameters()}});
    bf::Trainer<> trainer(net, w, sgd, constant_lr);
    const auto data = batches(1);
    for (int step = 0; step < 2; ++step) trainer.step(std::vector(3, data[0]));
    EXPECT_EQ(net.numbers, (std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5}));
}

TEST(Trainer, AStepIsFinishedOnce) {
    Parts p;
    bf::Trainer<> trainer(*p.net, p.w, p.sgd, constant_lr);
    const auto data = batches(1);
    bf::PendingStep step = trainer.launch(data);
    trainer.finish(std::move(step));
    EXPECT_THROW(trainer.finish(std::move(step)), bf::Error);
    EXPECT_THROW(trainer.finish({}), bf::Error);
    EXPECT_EQ(one_step(trainer, data[0]).step, 2u);  // and goes on
}

TEST(Trainer, WantsABatch) {
    Parts p;
    bf::Trainer<> trainer(*p.net, p.w, p.sgd, constant_lr);
    EXPECT_THROW(trainer.step({}), bf::Error);
    EXPECT_EQ(trainer.steps(), 0u);
}

// ---- stages

/// What the recording stages share: the log, and what the states must hold.
struct Watch {
    std::vector<std::string> log;
    const std::vector<TrainBatch>* data = nullptr;  // the micro-batches of the step
    std::vector<Tensor> embeddings;                 // and what the network makes of them
    Tensor w_before;
    const Parts* parts = nullptr;
    std::uint64_t step = 0;

    bool gradients_ready() const {
        for (const bf::Parameter& p : parts->net->parameters())
            if (p.trainable && !p.var.grad().defined()) return false;
        return parts->w.grad().defined();
    }
};

/// A stage with any subset of the hooks; each writes one line and checks what it was given.
template <bool Forward, bool Before, bool After>
struct Recorder {
    Watch& watch;
    char name;

    void after_forward(bf::ForwardState& s) requires Forward {
        const auto m = static_cast<std::size_t>(s.micro_batch);
        watch.log.push_back(std::string("forward ") + std::to_string(m) + name);
        const TrainBatch& batch = watch.data->at(m);
        EXPECT_EQ(s.step, watch.step);
        EXPECT_TRUE(same_bits(s.embeddings, watch.embeddings.at(m)));
        EXPECT_TRUE(s.labels.shares_storage(batch.labels));
        EXPECT_TRUE(s.indices.shares_storage(batch.indices));
        EXPECT_TRUE(s.weight.value().shares_storage(watch.parts->w.value()));
        EXPECT_TRUE(same_bits(s.weight.value(), watch.w_before));
        EXPECT_EQ(watch.gradients_ready(), m > 0);  // of the micro-batches before this one
        EXPECT_FALSE(s.memory.embeddings.defined());
        EXPECT_EQ(s.memory.total, 0);
    }
    void before_step(bf::StepState& s) requires Before {
        watch.log.push_back(std::string("before ") + name);
        EXPECT_EQ(s.step, watch.step);
        EXPECT_TRUE(watch.gradients_ready());
        EXPECT_TRUE(same_bits(s.weight.value(), watch.w_before));
    }
    void after_step(bf::StepState& s) requires After {
        watch.log.push_back(std::string("after ") + name);
        EXPECT_EQ(s.step, watch.step);
        EXPECT_TRUE(s.weight.value().shares_storage(watch.parts->w.value()));
        EXPECT_FALSE(same_bits(s.weight.value(), watch.w_before));
    }
};

TEST(Stages, AnySubsetOfHooksInTheVisibleOrder) {
    Parts p, twin;
    Watch watch;
    watch.parts = &p;
    Recorder<true, true, true> a{watch, 'a'};
    Recorder<false, false, false> b{watch, 'b'};
    Recorder<true, false, false> c{watch, 'c'};
    Recorder<false, true, false> d{watch, 'd'};
    Recorder<false, false, true> e{watch, 'e'};
    Recorder<true, true, false> f{watch, 'f'};
    Recorder<true, false, true> g{watch, 'g'};
    Recorder<false, true, true> h{watch, 'h'};
    bf::Trainer trainer(*p.net, p.w, p.sgd, constant_lr, h, a, b, c, d, e, f, g);
    const auto data = batches(4);
    for (std::uint64_t step = 0; step < 2; ++step) {
        const std::vector<TrainBatch> micro(data.begin() + 2 * static_cast<std::ptrdiff_t>(step),
                                            data.begin() + 2 * static_cast<std::ptrdiff_t>(step) + 2);
        twin.net->load_state(p.net->state());
        watch.log.clear();
        watch.data = &micro;
        watch.step = step;
        watch.w_before = p.w.value().clone();
        watch.embeddings.clear();
        for (const TrainBatch& batch : micro) watch.embeddings.push_back((*twin.net)(Var(batch.images)).value());
        trainer.step(micro);
        EXPECT_EQ(watch.log, (std::vector<std::string>{"forward 0a", "forward 0c", "forward 0f", "forward 0g",  //
                                                       "forward 1a", "forward 1c", "forward 1f", "forward 1g",  //
                                                       "before h", "before a", "before d", "before f",          //
                                                       "after h", "after a", "after e", "after g"}));
        EXPECT_EQ(trainer.steps(), step + 1);
    }
}

/// Gives the classifier a memory, or takes it away.
struct Sets {
    bf::ClassifierMemory memory;
    std::int64_t found = -1;
    void after_forward(bf::ForwardState& s) {
        found = s.memory.total;
        s.memory = memory;
    }
};

TEST(Stages, ALaterOneSeesAndChangesWhatAnEarlierOneSet) {
    const auto data = batches(1);
    Sets gives{{bf::Init(8).normal({3, dim}, 1), Tensor::from<std::int64_t>({0, 2, 5}, {3}), 3}}, takes{};
    Parts first, second, twin;
    bf::Trainer taken(*first.net, first.w, first.sgd, constant_lr, gives, takes);
    const StepReport plain = one_step(taken, data[0]);
    EXPECT_EQ(gives.found, 0);
    EXPECT_EQ(takes.found, 3);
    EXPECT_EQ(plain.classifier_loss, plain.loss);
    bf::Trainer given(*second.net, second.w, second.sgd, constant_lr, takes, gives);
    const StepReport with = one_step(given, data[0]);
    EXPECT_EQ(gives.found, 0);
    EXPECT_EQ(with.loss, plain.loss);
    const auto want = bf::margin_softmax((*twin.net)(Var(data[0].images)), twin.w, data[0].labels,
                                         {.margin = margin, .memory = gives.memory});
    EXPECT_EQ(with.classifier_loss, want.classifier_loss.item());
    EXPECT_NE(with.classifier_loss, plain.classifier_loss);
}

/// A stage with a state of its own.
struct Counter {
    Tensor count = Tensor::zeros({1}, {.dtype = DType::i64});
    void after_step(bf::StepState&) { ++count.data<std::int64_t>()[0]; }
    StateDict save_state() const { return {{"counter.count", count}}; }
    void load_state(const StateDict& state) { bf::load_tensor(state, "counter.count", count); }
};

// ---- saving and continuing

/// A run in the middle of everything: momentum, dropout, a queue that wraps and ramps up, a warm-up.
struct Training : Parts {
    Training() : Parts(0.2) {}
    BroadFace broad{{.queue = 20, .ramp_steps = 6}, dim};
    Counter counter;
    bf::Trainer<BroadFace, Counter> trainer{*net, w, sgd, warm_up, broad, counter};
};

TEST(Trainer, SavedInTheMiddleContinuesBitForBit) {
    const auto data = batches(9), other = batches(4, 77);
    Training whole, resumed;
    for (std::size_t i = 0; i < 4; ++i) one_step(whole.trainer, data[i]);
    const StateDict saved = copy_of(whole.trainer.state());
    for (const char* name :
         {"net.layer1.0.bn1.running_var", "classifier.weight", "queue.embeddings", "counter.count",
          "optimizer.momentum.classifier.weight", "optimizer.momentum.conv1.weight", "trainer.steps"})
        EXPECT_TRUE(saved.count(name)) << name;
    for (std::size_t i = 0; i < 3; ++i) one_step(resumed.trainer, other[i]);  // everything in it must be replaced
    resumed.trainer.load_state(saved);
    EXPECT_EQ(resumed.trainer.steps(), 4u);
    expect_same_bits(resumed.trainer.state(), saved);
    for (std::size_t i = 4; i < 9; ++i) {
        expect_same_report(one_step(whole.trainer, data[i]), one_step(resumed.trainer, data[i]));
        expect_same_bits(whole.trainer.state(), resumed.trainer.state());
    }
    EXPECT_EQ(resumed.counter.count.data<std::int64_t>()[0], 9);
}

TEST(Trainer, GoesBackToItsBeginningBitForBit) {
    const auto data = batches(3);
    Training run;
    const StateDict start = copy_of(run.trainer.state());  // no momentum yet
    std::vector<StepReport> first;
    for (const TrainBatch& batch : data) first.push_back(one_step(run.trainer, batch));
    const StateDict end = copy_of(run.trainer.state());
    run.trainer.load_state(start);
    for (std::size_t i = 0; i < 3; ++i) expect_same_report(one_step(run.trainer, data[i]), first[i]);
    expect_same_bits(run.trainer.state(), end);  // the queue too: 24 rows have filled it again
}

// ---- numbers that are not finite

TEST(Trainer, ALossThatIsNotFiniteChangesNoWeight) {
    auto data = batches(4);
    Training run, undisturbed;
    for (std::size_t i = 0; i < 2; ++i) {
        one_step(run.trainer, data[i]);
        one_step(undisturbed.trainer, data[i]);
    }
    const StateDict before = copy_of(run.trainer.state());
    TrainBatch broken{data[2].images.clone(), data[2].labels, data[2].indices};
    broken.images.data<float>()[100] = std::numeric_limits<float>::quiet_NaN();
    try {
        one_step(run.trainer, broken);
        FAIL() << "went unnoticed";
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::diverged);
        EXPECT_NE(std::string(e.what()).find("not finite at step 3"), std::string::npos) << e.what();
        EXPECT_NE(std::string(e.what()).find("hint"), std::string::npos) << e.what();
    }
    EXPECT_EQ(run.trainer.steps(), 2u);
    for (const auto& [name, tensor] : run.trainer.state()) {
        if (name.find("running_") != std::string::npos) continue;  // they belong to the forward pass, which did happen
        EXPECT_TRUE(same_bits(tensor, before.at(name))) << name;
    }
    // without the broken batch the run goes on as if nothing had been
    for (std::size_t i = 2; i < 4; ++i)
        expect_same_report(one_step(run.trainer, data[i]), one_step(undisturbed.trainer, data[i]));
}

/// Its value is finite and its gradient is not: |bias| at 0 as the root of a square.
class Kinked : public bf::Module {
  public:
    Kinked() {
        bf::Init init(3);
        weight_ = add_parameter("weight", init.normal({dim, 3 * 16 * 16}, 0.05));
        bias_ = add_parameter("bias", init.constant({batch_size, dim}, 0), true);
    }
    Var forward(const Var& x) override { return bf::linear(bf::flatten(x), weight_) + bf::sqrt(bf::square(bias_)); }

  private:
    Var weight_, bias_;
};

TEST(Trainer, AGradientThatIsNotFiniteChangesNothing) {
    Kinked net;
    const Var w = Var::leaf(bf::Init(5).normal({people, dim}, 0.1));
    bf::Sgd sgd({{.parameters = net.parameters()}, {.parameters = {{"classifier.weight", w}}}}, {.clip_norm = 5});
    BroadFace broad({.queue = 20}, dim);
    bf::Trainer<BroadFace> trainer(net, w, sgd, constant_lr, broad);
    const auto data = batches(1);
    const StateDict before = copy_of(trainer.state());
    for (int tries = 0; tries < 2; ++tries) {
        EXPECT_THROW(one_step(trainer, data[0]), bf::Error);
        EXPECT_EQ(broad.size(), 0);  // the rejected step's rows are not in the queue
        EXPECT_EQ(trainer.steps(), 0u);
        for (const auto& [name, tensor] : before) EXPECT_TRUE(same_bits(trainer.state().at(name), tensor)) << name;
    }
}

// ---- gradient accumulation

/// Without batch norm the gradient of a batch is the sum of its parts'.
class Plain : public bf::Module {
  public:
    explicit Plain(std::int64_t inputs) {
        bf::Init init(3, DType::f64);
        first_ = add_child("first", std::make_shared<bf::Linear>(bf::LinearOptions{.in = inputs, .out = 12}, init));
        prelu_ = add_child("prelu", std::make_shared<bf::PRelu>(12, init));
        last_ = add_child("last", std::make_shared<bf::Linear>(bf::LinearOptions{.in = 12, .out = 5}, init));
    }
    Var forward(const Var& x) override { return (*last_)((*prelu_)((*first_)(bf::flatten(x)))); }

  private:
    std::shared_ptr<bf::Linear> first_;
    std::shared_ptr<bf::PRelu> prelu_;
    std::shared_ptr<bf::Linear> last_;
};

TEST(Trainer, MicroBatchesGiveTheUpdateOfOneBatch) {
    struct Small {
        Plain net{3 * 4 * 4};
        Var w = Var::leaf(bf::Init(6, DType::f64).normal({7, 5}, 0.3));
        bf::Sgd sgd{{{.parameters = net.parameters()}, {.parameters = {{"classifier.weight", w}}}}};
        BroadFace broad{{.queue = 18}, 5, DType::f64};
        bf::Trainer<BroadFace> trainer{
            net,
            w,
            sgd,
            {.margin = margin, .schedule = {.lr = 0.1, .total_steps = 100}, .want_gradient_norm = true},
            broad};
    };
    Small whole, halves, uneven;
    bf::Init init(7, DType::f64);
    for (std::int64_t step = 0; step < 5; ++step) {
        const Tensor images = init.normal({8, 3, 4, 4}, 1);
        Tensor labels = Tensor::empty({8}, {.dtype = DType::i64});
        for (std::int64_t i = 0; i < 8; ++i) labels.data<std::int64_t>()[i] = (i * i + step) % 7;
        const auto part = [&](std::int64_t a, std::int64_t b) {
            return TrainBatch{images.rows(a, b), labels.rows(a, b), labels.rows(a, b)};
        };
        const StepReport one = whole.trainer.step(std::vector{part(0, 8)});
        for (auto& [cut, report] :
             {std::pair{&halves, halves.trainer.step(std::vector{part(0, 4), part(4, 8)})},
              std::pair{&uneven, uneven.trainer.step(std::vector{part(0, 1), part(1, 3), part(3, 8)})}}) {
            EXPECT_NEAR(report.loss, one.loss, 1e-12);
            EXPECT_NEAR(report.classifier_loss, one.classifier_loss, 1e-12);
            EXPECT_NEAR(report.gradient_norm, one.gradient_norm, 1e-12);
            EXPECT_EQ(report.accuracy, one.accuracy);
            EXPECT_EQ(report.step, one.step);
            const StateDict want = whole.trainer.state(), got = cut->trainer.state();
            ASSERT_EQ(want.size(), got.size());
            for (const auto& [name, tensor] : want) {
                if (tensor.dtype() != DType::f64) {
                    EXPECT_TRUE(same_bits(tensor, got.at(name))) << name;
                    continue;
                }
                for (std::int64_t i = 0; i < tensor.numel(); ++i)
                    ASSERT_NEAR(got.at(name).data<double>()[i], tensor.data<double>()[i], 1e-12)
                        << name << " step " << step;
            }
        }
    }
}

}  // namespace
